"""Continue tokens of paged lists (rest.md A7.3)."""

import base64
import binascii
from dataclasses import dataclass
from typing import Final, NoReturn

import orjson

from apimachinery import status
from apimachinery.types import Object

LATEST: Final = -1
"""The revision in a token that continues at the newest state instead of the first page's."""

_VERSION = "meta.k8s.io/v1"
_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


@dataclass(frozen=True, slots=True)
class ContinueToken:
    """Where the next page begins."""

    revision: int
    """The revision of the first page, or LATEST."""
    start: str
    """The place in the list, in the form that the list handler wrote it: opaque here, never empty."""


def encode_continue(revision: int, start: str) -> str:
    """The opaque text of a token."""
    data = orjson.dumps({"v": _VERSION, "rv": revision, "start": start})
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _refuse(why: str) -> NoReturn:
    raise status.bad_request(f"invalid continue token: continue key is not valid: {why}") from None


def _decode(token: str) -> Object:
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        document = orjson.loads(data)
    except (binascii.Error, ValueError) as error:
        _refuse(" ".join(str(error).split()))
    if not isinstance(document, dict):
        _refuse("the token is not an object")
    return document


def decode_continue(token: str) -> ContinueToken:
    """Read a token back. APIError 400 for anything that `encode_continue` did not write."""
    document = _decode(token)
    version, revision, start = document.get("v"), document.get("rv"), document.get("start")
    if version != _VERSION:
        _refuse(f"server does not recognize this encoded version {version if isinstance(version, str) else ''}")
    if type(revision) is not int or revision == 0 or revision < LATEST:
        _refuse(f"incorrect encoded start resourceVersion (version {_VERSION})")
    if not isinstance(start, str) or not start:
        _refuse(f"encoded start key empty (version {_VERSION})")
    return ContinueToken(revision, start)


class ContinueExpiredError(status.APIError):
    """410 for a page of a list that is too old; carries a token that goes on at the newest state."""

    def __init__(self, token: str) -> None:
        super().__init__(410, "Expired", _EXPIRED)
        self.token = token

    @property
    def status(self) -> Object:
        document = super().status
        return {**document, "metadata": {"continue": self.token}}


def continue_expired(token: ContinueToken) -> status.APIError:
    """The answer when the revision of a token is no longer at hand."""
    return ContinueExpiredError(encode_continue(LATEST, token.start))


def list_expired() -> status.APIError:
    """The answer when a list asks for an exact revision that is no longer at hand."""
    return status.expired("The resourceVersion for the provided list is too old.")
