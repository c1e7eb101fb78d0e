"""How connections to remote backends are made: within limits, one after the other, with what earlier ones agreed on."""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from aggregator.proxy.endpoint import Ways
from aggregator.proxy.limits import Limits
from aggregator.proxy.resolver import Address
from aggregator.proxy.sharing import Connect, Factory
from aggregator.proxy.turns import Turns
from aggregator.upstream.backend import Backend
from aggregator.upstream.egress import EgressRefused
from aggregator.upstream.resumption import Resumption
from aggregator.upstream.tls import HTTP1, HTTP2_TOO, UpstreamTLS


def connector(tls: UpstreamTLS, backend: Backend, *, limits: Limits, turns: Turns) -> Callable[[Address], Ways]:
    """What makes connections to an address of this backend. UpstreamTLSError."""
    egress = tls.egress
    given = {host for host, _ in backend.addresses if not egress.trusts(host)}
    upstream = object()
    own = tls.context(backend)

    def at(address: Address) -> Ways:
        # What a lookup has found was looked at then.
        refusal = egress.refusal(address[0]) if address[0] in given else ""

        def way(alpn: tuple[str, ...]) -> Connect:
            resumption: Resumption | None = None

            async def attempt(factory: Factory) -> object:
                nonlocal resumption
                if resumption is None:
                    # Most backends are never crowded: a context, with the roots that it trusts, takes memory.
                    resumption = Resumption(own if alpn == HTTP1 else tls.context(backend, alpn))
                handshake = resumption.attempt()
                try:
                    made = await asyncio.get_running_loop().create_connection(
                        factory,
                        *address,
                        ssl=cast(ssl.SSLContext, handshake),
                        server_hostname=backend.server_name,
                        ssl_handshake_timeout=limits.handshake_seconds,
                    )
                except (ssl.SSLError, ConnectionResetError) as error:
                    if not handshake.failed(error):
                        raise
                    return await attempt(factory)
                handshake.succeeded()
                return made

            async def connect(factory: Factory) -> object:
                if refusal:
                    raise EgressRefused(refusal)
                await turns.take(upstream)
                try:
                    async with asyncio.timeout(limits.connect_seconds + limits.handshake_seconds):
                        return await attempt(factory)
                finally:
                    turns.ended()

            return connect

        return Ways(way(HTTP1), way(HTTP2_TOO))

    return at
