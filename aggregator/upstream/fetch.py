"""One-shot GETs to a backend for probes, discovery and OpenAPI: no pool, no redirects, everything bounded."""

import contextlib
import time
from collections.abc import Sequence

from aggregator.upstream import reach
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
            return await _get(one, tls, path, headers, share, max_body)
    return await _get(last, tls, path, headers, share, max_body)


async def _get(
    backend: Backend, tls: UpstreamTLS, path: str, headers: Sequence[tuple[str, str]], timeout: float, max_body: int
) -> http1.Response:
    deadline = time.monotonic() + timeout
    target = await reach.target(backend, tls, timeout=timeout)
    rest = max(0.0, deadline - time.monotonic())
    return await http1.request(target, "GET", path, headers, timeout=rest, max_body=max_body)
