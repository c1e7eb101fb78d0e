"""Documents that a server answers with: one form for discovery and OpenAPI, whoever makes them."""

from typing import NamedTuple, Protocol


class Answer(NamedTuple):
    """An HTTP answer as plain data; header names are lower-case."""

    code: int
    headers: dict[str, str]
    body: bytes


class DocumentSource(Protocol):
    """Answers some targets (path and query) with documents; None for what is not its own. Raises APIError (406)."""

    def respond(self, target: str, accept: str, if_none_match: str) -> Answer | None: ...


def not_modified(if_none_match: str, etag: str) -> bool:
    """Whether an If-None-Match header names this entity tag (RFC 9110 13.1.2): as one of several, weak, or by `*`."""
    if if_none_match == etag:
        return True
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]
