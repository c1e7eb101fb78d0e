"""Where requests carry bearer tokens (aggregator.md 8.2): the Authorization header, or a WebSocket subprotocol."""

import base64
import binascii
from typing import Final

PROTOCOL_PREFIX: Final = "base64url.bearer.authorization.k8s.io."
"""Browsers cannot set headers on a WebSocket, so the token stands in the name of a subprotocol."""


class BadToken(ValueError):
    """A token was given in a form that does not count."""


def from_header(authorization: str) -> str:
    """The token of an Authorization header; empty when it holds none."""
    parts = authorization.strip().split(" ", 2)
    if len(parts) < 2 or parts[0].lower() != "bearer":
        return ""
    return parts[1]


def from_protocols(offered: str) -> str:
    """The token among the subprotocols that a WebSocket client offers; empty when there is none. BadToken."""
    token = ""
    others = 0
    for protocol in (part.strip() for part in offered.split(",")):
        if not protocol.startswith(PROTOCOL_PREFIX):
            others += bool(protocol)
            continue
        if token:
            raise BadToken("multiple tokens in Sec-WebSocket-Protocol header")
        token = _decoded(protocol.removeprefix(PROTOCOL_PREFIX))
        if not token:
            raise BadToken("empty token in Sec-WebSocket-Protocol header")
    if token and not others:
        raise BadToken("missing additional subprotocol in Sec-WebSocket-Protocol header")
    return token


def _decoded(text: str) -> str:
    # Unpadded base64url; the decoder itself would pass over foreign characters.
    if "=" in text or not text.isascii() or not text.replace("-", "").replace("_", "").isalnum():
        raise BadToken("invalid token encoding in Sec-WebSocket-Protocol header")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise BadToken("invalid token encoding in Sec-WebSocket-Protocol header") from None
