"""One-shot GETs to a backend for probes, discovery and OpenAPI: no pool, no redirects, everything bounded."""

import contextlib
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

    Of several addresses the first that answers is asked; each has its equal share of the time. Raises UpstreamTLSError
    when no context can be built, and http1.HTTPClientError (its text is fit for a condition message) when there is no
    complete answer.
    """
    *others, last = backend.alternatives()
    share = timeout / (len(others) + 1)
    for one in others:
        with contextlib.suppress(http1.HTTPClientError):
            return await http1.request(_target(one, tls), "GET", path, headers, timeout=share, max_body=max_body)
    return await http1.request(_target(last, tls), "GET", path, headers, timeout=share, max_body=max_body)


def _target(backend: Backend, tls: UpstreamTLS) -> http1.Target:
    return http1.Target(
        host=backend.host, port=backend.port, ssl=tls.context(backend), server_hostname=backend.server_name
    )
