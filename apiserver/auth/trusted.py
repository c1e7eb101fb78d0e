"""Identity on a connection that only the front door can open, such as a private unix socket."""

from starlette.types import Scope

from apimachinery.identity import RequestHeaderNames, User, from_headers

_NAMES = RequestHeaderNames()


def lower_headers(scope: Scope) -> list[tuple[str, str]]:
    """The header lines of an ASGI scope as text; names are lower-case already."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]


def trusted_headers(scope: Scope) -> User | None:
    """The user that the X-Remote-* headers claim: whoever can connect here may speak for anybody."""
    return from_headers(lower_headers(scope), _NAMES)
