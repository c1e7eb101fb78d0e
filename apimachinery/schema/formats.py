"""String formats of the schema language; a format that is not known here is not checked (rest.md B4.1)."""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Final

from apimachinery import names

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_GO_DURATION: Final = re.compile(r"[+-]?(0|([0-9]+([.][0-9]*)?(ns|us|µs|μs|ms|s|m|h))+)")
_UUID: Final = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_MAC: Final = re.compile(r"[0-9a-f]{2}(([:-])[0-9a-f]{2})(\2[0-9a-f]{2}){4}", re.IGNORECASE)
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
_URI: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:|/)[^\s]*")
_HOSTNAME: Final = re.compile(
    r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*[.]?", re.IGNORECASE
)


def _parses(parse: Callable[[str], object], value: str) -> bool:
    try:
        parse(value)
    except (ValueError, binascii.Error):
        return False
    return True


def is_date_time(value: str) -> bool:
    """RFC 3339 date and time, with a zone."""
    if not _DATE_TIME.fullmatch(value):
        return False
    # Fractions of any length are legal here but not in fromisoformat.
    return _parses(datetime.fromisoformat, value[:19].upper())


def _is_date(value: str) -> bool:
    return bool(_DATE.fullmatch(value)) and _parses(date.fromisoformat, value)


def _is_base64(value: str) -> bool:
    return value.isascii() and _parses(lambda text: base64.b64decode(text, validate=True), value)


def _is_cidr(value: str) -> bool:
    return "/" in value and _parses(lambda text: ipaddress.ip_network(text, strict=False), value)


_FORMATS: Final[Mapping[str, Callable[[str], bool]]] = {
    "byte": _is_base64,
    "cidr": _is_cidr,
    "date": _is_date,
    "date-time": is_date_time,
    "datetime": is_date_time,
    "duration": lambda value: bool(_GO_DURATION.fullmatch(value)),
    "email": lambda value: bool(_EMAIL.fullmatch(value)),
    "hostname": lambda value: len(value) <= 255 and bool(_HOSTNAME.fullmatch(value)),
    "ipv4": lambda value: _parses(ipaddress.IPv4Address, value),
    "ipv6": lambda value: _parses(ipaddress.IPv6Address, value),
    "k8s-long-name": lambda value: not names.validate_dns1123_subdomain(value),
    "k8s-short-name": lambda value: not names.validate_dns1123_label(value),
    "mac": lambda value: bool(_MAC.fullmatch(value)),
    "uri": lambda value: bool(_URI.fullmatch(value)),
    "uuid": lambda value: bool(_UUID.fullmatch(value)),
}


def fits(value: str, name: str) -> bool:
    """Whether the text has the named format."""
    check = _FORMATS.get(name)
    return check is None or check(value)
