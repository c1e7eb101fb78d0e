"""The heads of an HTTP/2 connection's requests: put together, decoded, checked, and turned into streams."""

import time

from aggregator.proxy import http2_frames as frames
from aggregator.proxy.http2_frames import ConnectionFault
from aggregator.proxy.http2_framing import FRAGMENTS
from aggregator.proxy.http2_hpack import Decoder, Fields, HpackError, TooLarge
from aggregator.proxy.http2_link import Http2Link
from aggregator.proxy.http2_request import Http2Request, MalformedRequest, read_fields, read_request
from aggregator.proxy.http2_stream import Http2Stream
from aggregator.proxy.oversize import HEAD_TOO_LARGE
from aggregator.proxy.plane import Plane

_KNOWN_REQUESTS = 256
_KNOWN_BYTES = 1024


class Http2Heads(Http2Link):
    """Turns HEADERS and CONTINUATION into streams. `http2_connection` adds the other frames."""

    __slots__ = (
        "_decoder",
        "_generation",
        "_known",
        "_lasting",
        "_partial_since",
    )

    def __init__(self, plane: Plane) -> None:
        super().__init__(plane)
        self._decoder = Decoder(plane.limits.head_bytes)
        self._known: dict[bytes, Http2Request] = {}
        """Heads seen since the dynamic table has changed last."""
        self._generation = 0
        self._lasting = False
        """The last block decoded has left the table as it was."""
        self._partial_since = 0.0

    def _on_headers(self, ident: int, flags: int, payload: bytes) -> None:
        if flags & (frames.PADDED | frames.HAS_PRIORITY):
            payload = frames.header_block(flags, payload)
        if not ident & 1:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "HEADERS on a stream that a client cannot open")
        end = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._on_head(ident, end, payload)
        else:
            self._head = (ident, end)
            self._fragments = [payload]
            self._begin_partial()

    def _on_continuation(self, ident: int, flags: int, payload: bytes) -> None:
        if self._head is None:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "CONTINUATION of nothing")
        fragments = self._fragments
        fragments.append(payload)
        # As many bytes as the fields may have, so that a head within the limit never needs more.
        if len(fragments) > FRAGMENTS or sum(map(len, fragments)) > self.plane.limits.head_bytes:
            if ident > self._last and self._admits(ident):
                self._last = ident
                self._too_large(ident, end=True)
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "head too large")
        if flags & frames.END_HEADERS:
            ident, end = self._head
            self._head = None
            self._fragments = []
            self._partial_since = 0.0
            self._on_head(ident, end, b"".join(fragments))

    def _begin_partial(self) -> None:
        now = time.monotonic()
        self._partial_since = now
        self.deadline = min(self.deadline, now + self.plane.limits.head_seconds)

    def _on_head(self, ident: int, end: bool, block: bytes) -> None:
        stream = self.streams.get(ident)
        if stream is not None or ident <= self._last:
            self._on_trailers(ident, stream, end, block)
            return
        self._last = ident
        try:
            request = self._known.get(block) or self._decode(block)
        except TooLarge:
            if self._admits(ident):
                self._too_large(ident, end=end)
            return
        except MalformedRequest:
            self._malformed(ident)
            return
        if not self._admits(ident):
            return
        if end and request.content_length > 0:
            self._malformed(ident)
            return
        stream = self.streams[ident] = Http2Stream(self, ident, end=end)
        stream.begin(request)

    def _too_large(self, ident: int, *, end: bool) -> None:
        stream = self.streams[ident] = Http2Stream(self, ident, end=end)
        stream.refuse(HEAD_TOO_LARGE)

    def _malformed(self, ident: int) -> None:
        """RFC 9113 8.1.1: what may mean different things to different servers is not even answered."""
        plane = self.plane
        plane.metrics.route("local").observe(b"OTHER", 400, 0.0, False)
        if plane.observer is not None:
            plane.observer.begin(plane.audit_ids.next(), self.peer, b"-", b"-", "2").finish(400, 0.0)
        self._refuse(ident, frames.PROTOCOL_ERROR)

    def _admits(self, ident: int) -> bool:
        """Whether another stream is welcome. One that is not can be tried again elsewhere."""
        if self._final:
            self._remember_reset(ident)
            return False
        if len(self.streams) >= self.plane.limits.streams:
            self._refuse(ident, frames.REFUSED_STREAM)
            return False
        return True

    def _decode(self, block: bytes) -> Http2Request:
        request = read_request(self._fields(block))
        if not 0 < self.plane.limits.head_fields < len(request.fields):
            request.look_for_plainness(self.plane.lines, self.plane.bearers)
        if self._lasting and len(block) <= _KNOWN_BYTES:
            known = self._known
            if len(known) >= _KNOWN_REQUESTS:
                known.clear()
            known[block] = request
        return request

    def _fields(self, block: bytes) -> Fields:
        decoder = self._decoder
        try:
            return decoder.decode(block)
        except HpackError as error:
            raise ConnectionFault(frames.COMPRESSION_ERROR, str(error)) from None
        finally:
            self._lasting = decoder.generation == self._generation
            if not self._lasting:
                # The block has changed the table: it, and those before it, would mean something else now.
                self._generation = decoder.generation
                self._known.clear()

    def _on_trailers(self, ident: int, stream: Http2Stream | None, end: bool, block: bytes) -> None:
        try:
            fields = self._fields(block)
        except TooLarge:
            fields = [(b"", b"")]
        if stream is None:
            if ident not in self._resets:
                raise ConnectionFault(frames.STREAM_CLOSED, "HEADERS on a closed stream")
            return
        if stream.remote_closed:
            self._fault(stream, frames.STREAM_CLOSED)
            return
        try:
            code = stream.trailers(read_fields(fields)) if end else frames.PROTOCOL_ERROR
        except MalformedRequest:
            code = frames.PROTOCOL_ERROR
        if code:
            self._fault(stream, code)
        else:
            self._touched[stream] = None

    def _check_opened(self, ident: int) -> None:
        if not ident & 1 or ident > self._last:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a frame on a stream that is not open")

    # Faults of the client

    def _fault(self, stream: Http2Stream, code: int) -> None:
        """Reset a stream for what the client did."""
        self._calm.fault()
        stream.client_gone()
        self.reset(stream, code)

    def _refuse(self, ident: int, code: int) -> None:
        """Reset a stream that is not among the open ones."""
        self._calm.fault()
        self._send_reset(ident, code)
