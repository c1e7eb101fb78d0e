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
