"""What carries an exchange to a backend: a connection of its own over HTTP/1.1, or a stream of a shared one."""

from typing import TYPE_CHECKING, Protocol

from aggregator.proxy.exchange import Exchange

if TYPE_CHECKING:
    from aggregator.proxy.endpoint import Endpoint


class Outlet(Protocol):
    """Where requests are written to, in the form of HTTP/1.1. The first write brings a whole head, any other one whole
    pieces of the body, chunked if the head says so."""

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool: ...

    def abort(self) -> None: ...


class Carrier(Protocol):
    """Serves one exchange at a time."""

    endpoint: "Endpoint"
    exchange: Exchange | None
    dedicated: bool
    """Serves one exchange only, as an upgrade does."""

    @property
    def transport(self) -> Outlet: ...

    @property
    def reused(self) -> bool:
        """What the exchange was given to had served others before."""

    def begin(self, exchange: Exchange) -> None:
        """Serve this exchange; the caller writes the request to `transport`."""

    def release(self) -> None:
        """The exchange gives it up in the middle."""

    def pause(self) -> None:
        """The client takes no more of the response for now."""

    def resume(self) -> None: ...

    def close(self) -> None:
        """Nobody needs it any more."""
