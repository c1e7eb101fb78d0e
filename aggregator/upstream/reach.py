"""From a backend to what a one-shot request connects to: addresses that the policy permits, with verified TLS."""

import asyncio
import socket

from aggregator.upstream import egress
from aggregator.upstream.backend import Backend
from aggregator.upstream.egress import EgressRefused
from aggregator.upstream.tls import UpstreamTLS
from apiserver import http1


async def target(backend: Backend, tls: UpstreamTLS, *, timeout: float) -> http1.Target:
    """Where to connect. UpstreamTLSError, or a subclass of http1.HTTPClientError when there is no address within
    `timeout` seconds, or none that the policy permits."""
    context = tls.context(backend)
    try:
        async with asyncio.timeout(timeout):
            addresses = await egress.addresses(backend.host, backend.port, tls.egress)
    except EgressRefused as error:
        raise http1.ConnectError(f"connect to {backend.authority}: {error}") from error
    except socket.gaierror as error:
        raise http1.ConnectError(f"connect to {backend.authority}: name resolution failed: {error.strerror}") from error
    except UnicodeError as error:
        raise http1.ConnectError(f"connect to {backend.authority}: invalid host name") from error
    except TimeoutError as error:
        raise http1.RequestTimeout(f"no address of {backend.host} within {timeout:g}s") from error
    return http1.Target(
        host=backend.host,
        port=backend.port,
        ssl=context,
        server_hostname=backend.server_name,
        addresses=tuple(addresses),
    )
