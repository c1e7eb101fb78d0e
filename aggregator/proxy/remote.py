"""How connections to remote backends are made: within limits, one after the other, with what earlier ones agreed on."""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from aggregator.proxy.endpoint import Connect
from aggregator.proxy.limits import Limits
from aggregator.proxy.resolver import Address
from aggregator.proxy.turns import Turns
from aggregator.proxy.upstream_conn import UpstreamConnection
from aggregator.upstream.backend import Backend
from aggregator.upstream.egress import Egress, EgressRefused
from aggregator.upstream.resumption import Resumption

Factory = Callable[[], UpstreamConnection]


def connector(
    context: ssl.SSLContext, backend: Backend, *, limits: Limits, egress: Egress, turns: Turns
) -> Callable[[Address], Connect]:
    """What makes connections to an address of this backend."""
    given = {host for host, _ in backend.addresses if not egress.trusts(host)}
    upstream = object()

    def at(address: Address) -> Connect:
        # What a lookup has found was looked at then.
        refusal = egress.refusal(address[0]) if address[0] in given else ""
        resumption = Resumption(context)

        async def attempt(factory: Factory) -> object:
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

    return at
