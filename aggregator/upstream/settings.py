"""What an APIService's annotations say about how its server is to be treated. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from apimachinery.durations import parse_go_duration

PREFIX: Final = "aggregator.grafana.app/"
REQUEST_TIMEOUT: Final = f"{PREFIX}request-timeout"
MAX_CONNECTIONS: Final = f"{PREFIX}max-connections"
MAX_PENDING: Final = f"{PREFIX}max-pending"
OWN_CONNECTIONS: Final = f"{PREFIX}own-connections"

_LONGEST_SECONDS = 3600.0
_LARGEST_COUNT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSettings:
    """None stands for the default of the data plane."""

    request_timeout: float | None = None
    """Seconds that a request which is not long-running may take."""
    max_connections: int | None = None
    """Requests at a time; long-running ones are not counted."""
    max_pending: int | None = None
    """Requests that may wait for their turn beyond that."""
    own_connections: int | None = None
    """Connections of HTTP/1.1 to one address; requests beyond that share connections over HTTP/2 if the server does."""


DEFAULT: Final = BackendSettings()


def from_annotations(annotations: Mapping[str, Any] | None) -> BackendSettings:
    """What the annotations say; a value that is none counts as absent (`faults` tells about it)."""
    if not annotations or not any(key.startswith(PREFIX) for key in annotations):
        return DEFAULT
    return BackendSettings(
        request_timeout=_duration(annotations.get(REQUEST_TIMEOUT))[0],
        max_connections=_count(annotations.get(MAX_CONNECTIONS), 1)[0],
        max_pending=_count(annotations.get(MAX_PENDING), 0)[0],
        own_connections=_count(annotations.get(OWN_CONNECTIONS), 0)[0],
    )


def faults(annotations: Mapping[str, Any] | None) -> list[tuple[str, Any, str]]:
    """(annotation, value, what is wrong with it) for each one that cannot be used."""
    found = annotations or {}
    checked = (
        (REQUEST_TIMEOUT, _duration(found.get(REQUEST_TIMEOUT))[1]),
        (MAX_CONNECTIONS, _count(found.get(MAX_CONNECTIONS), 1)[1]),
        (MAX_PENDING, _count(found.get(MAX_PENDING), 0)[1]),
        (OWN_CONNECTIONS, _count(found.get(OWN_CONNECTIONS), 0)[1]),
    )
    return [(name, found[name], fault) for name, fault in checked if fault]


def _duration(value: Any) -> tuple[float | None, str]:
    if value is None:
        return None, ""
    try:
        seconds = parse_go_duration(value) if isinstance(value, str) else 0.0
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_SECONDS:
        return None, 'must be a duration such as "30s", more than zero and at most "1h"'
    return seconds, ""


def _count(value: Any, least: int) -> tuple[int | None, str]:
    if value is None:
        return None, ""
    if isinstance(value, str) and value.isascii() and value.isdigit() and least <= int(value[:9]) <= _LARGEST_COUNT:
        return int(value), ""
    return None, f'must be a number from "{least}" to "{_LARGEST_COUNT}"'
