"""From the bytes of one HTTP/1.1 connection to its requests, on llhttp."""

import asyncio
from collections import deque
from typing import Any, Final, cast

import httptools

from apiserver.http1_exchange import Exchange, Wire
from apiserver.http1_heads import HEAD_TOO_LARGE, Refusal, RequestFields, refusal, split_target

MAX_HEAD: Final = 1024 * 1024
"""Bytes of a request head, or of trailers, that are accepted (aggregator.md 0)."""
_GONE: Final = httptools.HttpRequestParser(object())
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


class Requests(asyncio.Protocol):
    """The reading half of a connection: keeps the requests that are under way, in order.

    `_refusal` says what is answered after them, instead of anything that follows.
    """

    _secure: bool
    _client: tuple[str, int | None] | None
    _server: tuple[str, int | None] | None

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state
        self._parser = httptools.HttpRequestParser(self)
        self._fields = RequestFields()
        self._target = b""
        self._head_bytes = 0
        self._measure = False
        self._in_body = False
        self._current: Exchange | None = None
        self._receiving: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._refusal: Refusal | None = None

    def _forget(self) -> None:
        """The connection is over. What it holds and is held by would stay, TLS session included, until a full garbage
        collection, and a server that has little to do makes one for hundreds of connections."""
        self._parser = _GONE
        self._current = self._receiving = None

    def _discard(self, size: int) -> None:
        """Bytes came that nobody wants."""
        raise NotImplementedError

    def _body_refused(self, exchange: Exchange, answer: Refusal) -> None:
        """The body of the current request cannot be read on."""
        raise NotImplementedError

    def _defect(self, error: Exception) -> None:
        """A defect of our own showed while bytes were parsed."""
        raise NotImplementedError

    def _feed(self, data: bytes) -> None:
        if not self._in_body:
            self._measure = len(data) + self._head_bytes > MAX_HEAD
        rest = data
        while rest:
            rest = self._parse(rest)
        if (self._target or self._in_body) and self._refusal is None:
            # Within a body this counts what is no content: the trailers, which the parser gathers.
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._refuse_rest(HEAD_TOO_LARGE)

    def _parse(self, data: bytes) -> bytes:
        """What is left to parse anew."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as switch:
            # An offer to change the protocol may be ignored (RFC 9110 7.8); what follows is the next request.
            self._parser = httptools.HttpRequestParser(self)
            return b"" if self._refusal is not None else data[switch.args[0] :]
        except httptools.HttpParserError as error:
            self._malformed(error)
        return b""

    def _malformed(self, error: httptools.HttpParserError) -> None:
        """Not HTTP/1.1, or a form of it that two parsers could read differently: refuse and close."""
        defect = error.__context__
        if isinstance(defect, Exception) and not isinstance(defect, httptools.HttpParserError):
            self._defect(defect)
            return
        current = self._current
        if current is not None and not current.keep_alive and current.complete:
            return  # Bytes after a request that was to be the last.
        self._refuse_rest(Refusal(400, str(error)))

    def _refuse_rest(self, answer: Refusal) -> None:
        if self._refusal is None:
            self._refusal = answer
        exchange, self._receiving = self._receiving, None
        if exchange is None:
            return
        # What is wrong is within the body of a request that may have begun to be worked on.
        if exchange is self._current:
            self._body_refused(exchange, self._refusal)
        else:
            self._waiting.remove(exchange)

    # httptools callbacks

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers say nothing that an application here could use.
        if not self._in_body:
            self._fields.add(name, value)

    def on_headers_complete(self) -> None:
        fields, self._fields = self._fields, RequestFields()
        target, self._target = self._target, b""
        self._head_bytes = 0
        self._in_body = True
        self._receiving = None
        if self._refusal is not None:
            return
        method, version = self._parser.get_method(), self._parser.get_http_version()
        if self._measure and len(target) + fields.size > MAX_HEAD:
            self._refusal = HEAD_TOO_LARGE
        else:
            self._refusal = refusal(method, target, version, fields)
        if self._refusal is not None:
            return
        keep_alive = version == "1.1" and self._parser.should_keep_alive()
        scope = self._scope(method.decode("ascii"), target, version, fields)
        exchange = Exchange(cast(Wire, self), scope, keep_alive=keep_alive, expects_continue=fields.expects_continue)
        self._receiving = exchange
        if self._current is None:
            self._current = exchange
        else:
            self._waiting.append(exchange)

    def on_body(self, data: bytes) -> None:
        self._head_bytes = 0
        exchange = self._receiving
        if exchange is None:
            return
        if exchange.ended:
            self._discard(len(data))
        else:
            exchange.feed(data)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._head_bytes = 0
        exchange, self._receiving = self._receiving, None
        if exchange is not None:
            exchange.finish_request()

    def _scope(self, method: str, target: bytes, version: str, fields: RequestFields) -> dict[str, Any]:
        path, raw_path, query = split_target(target)
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": method,
            "scheme": "https" if self._secure else "http",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": fields.lines,
            "client": self._client,
            "server": self._server,
            "state": self._state.copy(),
        }


def address(name: Any) -> tuple[str, int | None] | None:
    """An address as ASGI has it; None for the nameless end of a unix socket."""
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    return (str(name), None) if name else None
