"""The words of ASGI that the server and its applications share."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class AbortResponse(Exception):
    """Raised by an application to break off a response: the client must not take what it has for the whole.

    HTTP/1.1 closes the connection, HTTP/2 resets the stream. Nothing is logged.
    """
