"""What an upstream connection knows of the request it serves: the client's side, HTTP/1.1 or HTTP/2."""

from typing import Protocol

from aggregator.proxy.headers import ResponseHead


class Exchange(Protocol):
    """One request in progress. Every method is called on the event loop, from a transport's callback."""

    @property
    def head_request(self) -> bool:
        """The method is HEAD: the response has no body whatever its fields say."""

    @property
    def request_complete(self) -> bool:
        """The whole request was handed to the upstream connection."""

    @property
    def upgrade(self) -> bool:
        """The request asks for a switch of protocols."""

    @property
    def long_running(self) -> bool:
        """A watch or the like: it may last for ever."""

    def response_informational(self, code: int, head: ResponseHead) -> None:
        """A 1xx response; the final one follows."""

    def response_refused(self) -> bool:
        """The backend wants to be left alone for a while, and another one can stand in. True: the request has been sent
        to that one, the upstream connection has been given up."""

    def response_head(self, code: int, head: ResponseHead, has_body: bool) -> bool:
        """The final response's head. False: the exchange is over, the upstream connection has been given up."""

    def response_lines(self, code: int, lines: list[bytes], cache_control: bool) -> None:
        """The final response's head with nothing special in it: status line and fields without line ends, to be passed
        on as they are, Content-Length among them."""

    def response_whole(self, code: int, lines: list[bytes], cache_control: bool, body: bytes) -> None:
        """`response_lines`, `response_body` and `response_end` in one, for a response that came in one piece."""

    def response_body(self, data: bytes) -> None: ...

    def response_end(self, trailers: bytes) -> None:
        """The response is complete, and the upstream connection already back in its pool or closed."""

    def response_switched(self, head: ResponseHead, rest: bytes) -> None:
        """101: from here on bytes are bytes; `rest` came right behind the head."""

    def tunnel_data(self, data: bytes) -> None: ...

    def flush(self) -> None:
        """Everything one read brought has been delivered: send it on."""

    def upstream_lost(self, error: BaseException | None, answered: bool) -> None:
        """The connection is gone; `answered` tells whether any byte of a response had arrived."""

    def upstream_ready(self) -> None:
        """The upstream takes more of the request."""

    def upstream_full(self) -> None:
        """The upstream's buffer is full: stop reading the request."""
