"""What a backend has been sent of a request, for one that turns out not to have looked at it."""

_MOST_BYTES = 64 * 1024
"""Of the body; a longer one is not kept."""


class KeptRequest:
    """Kept until the answer begins, or until it is too much."""

    __slots__ = ("_body", "_bytes", "_head")

    def __init__(self) -> None:
        self._head: bytes | None = b""
        """In the form of HTTP/1.1; None once nothing is kept."""
        self._body: list[bytes] = []
        self._bytes = 0

    def begin(self, head: bytes) -> None:
        self._head = head

    def add(self, data: bytes) -> None:
        """More of the body, without any framing, is sent."""
        if self._head is not None:
            self._body.append(data)
            self._bytes += len(data)
            if self._bytes > _MOST_BYTES:
                self.forget()

    def forget(self) -> None:
        """The request will not be sent again."""
        self._head = None
        self._body.clear()

    def whole(self, held: bytes, *, chunked: bool, last: bytes | None) -> bytes | None:
        """All there is of the request, in the form of HTTP/1.1; None if some of it is no longer at hand.

        `held` follows what was sent; `last` are the trailers of a chunked body that is complete.
        """
        if self._head is None:
            return None
        body = b"".join((*self._body, held))
        if chunked:
            end = b"0\r\n%b\r\n" % last if last is not None else b""
            body = b"%x\r\n%b\r\n%b" % (len(body), body, end) if body else end
        return b"%b\r\n\r\n%b" % (self._head, body)
