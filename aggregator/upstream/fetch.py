"""One-shot GETs to a backend for probes, discovery and OpenAPI: no pool, no redirects, everything bounded."""

from collections.abc import Sequence

from aggregator.upstream.backend import Backend
from aggregator.upstream.tls import UpstreamTLS
from apiserver import http1


async def fetch(
    backend: Backend,
    tls: UpstreamTLS,
    path: str,
    headers: Sequence[tuple[str, str]] = (),
    *,
    timeout: float,
    max_body: int,
) -> http1.Response:
    """GET `path` from a backend over a connection of its own, within `timeout` seconds and `max_body` bytes.

    Raises UpstreamTLSError when no context can be built, and http1.HTTPClientError (its text is fit for a condition
    message) when there is no complete answer.
    """
    target = http1.Target(
        host=backend.host, port=backend.port, ssl=tls.context(backend), server_hostname=backend.server_name
    )
    return await http1.request(target, "GET", path, headers, timeout=timeout, max_body=max_body)
