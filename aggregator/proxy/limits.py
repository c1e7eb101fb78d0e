"""Limits of the data plane, in seconds and bytes; defaults follow the originals (aggregator.md 0)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    connections: int = 20_000
    """Most connections of clients, handshakes in progress included; further ones are closed. 0 is no limit, here and
    where it is said below."""
    address_connections: int = 0
    """The same per client address. Off: behind one address there may be many clients."""
    head_bytes: int = 1024 * 1024
    """Largest head. A larger one of a client is answered 431, of a backend 503."""
    head_fields: int = 256
    """Most fields of a client's request, 431 beyond. 0 is no limit, here and below."""
    target_bytes: int = 64 * 1024
    """Longest request target, query included; 414 beyond."""
    body_bytes: int = 0
    """Largest request body, 413 beyond. Off: bodies stream, and what a backend takes is the backend's to say."""
    body_rate: int = 100
    """Bytes per second that a request body has to bring on average over `body_window_seconds`, 408 otherwise. Time in
    which the backend takes no more does not count, long-running requests may be silent."""
    body_window_seconds: float = 10.0
    """How often that is looked at."""
    write_seconds: float = 30.0
    """How long a client may leave a response unread that waits for it; those of long-running requests excepted, since
    somebody may be looking at them page by page."""
    head_seconds: float = 32.0
    """From the first byte of a request head to its last."""
    idle_seconds: float = 90.0
    """Between two requests of a client, and of an unused connection to a backend."""
    handshake_seconds: float = 10.0
    """TLS handshake, on either side."""
    connect_seconds: float = 30.0
    """TCP connection to a backend, name lookup included; the handshake has its own time on top."""
    linger_seconds: float = 5.0
    """How long the rest of a request body is read and dropped after its response is complete."""
    linger_bytes: int = 256 * 1024
    """How much of it, at most."""
    idle_connections: int = 256
    """Unused connections kept per endpoint."""
    own_connections: int = 16
    """Connections of HTTP/1.1 to an endpoint. A request that finds as many in use shares one of HTTP/2, if the backend
    prefers that."""
    shared_streams: int = 100
    """Requests at a time on a shared connection; fewer if the backend says so."""
    unsafe_reuse_ticks: int = 1
    """A request that cannot be replayed takes an idle connection only if unused for at most so many sweeps (about
    seconds): the backend may be closing an older one this very moment."""
    max_connections: int = 1024
    """Requests of one APIService at a time, long-running ones not counted; an annotation can change it."""
    max_mutating: int = 200
    """Requests in progress that change something; those of administrators and long-running ones are not counted. 0 is
    no limit."""
    max_read_only: int = 400
    """The same for get, list and watch."""
    user_share: int = 75
    """Percentage of either that one user may take while nobody else wants any; see `admission`."""
    max_pending: int = 1024
    """Requests of one APIService that may wait beyond that; an annotation can change it."""
    hedge_seconds: float = 0.25
    """How long a connection may take before another address is tried beside it (RFC 8305 5)."""
    resolve_seconds: float = 5.0
    """Between two lookups of the host names of backends in use."""
    identity_seconds: float = 30.0
    """How long a connection's certificate is taken as valid before it is looked at again."""
    sweep_seconds: float = 1.0
    """Period of the one coarse timer that enforces all of these."""
    streams: int = 250
    """Requests at a time on one HTTP/2 connection; what Go's servers allow."""
    reject_redirects: bool = True
    """Answer 502 instead of passing on a redirect of a remote backend."""
