"""From the text of a setting to its value, and the annotated types that the settings tree is written in.

A parser raises ValueError with a text that says what is allowed; the caller adds where the value came from.
"""

import ipaddress
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from apimachinery import names

MOST_WORKERS = 256

_TRUE = frozenset(("1", "t", "true", "y", "yes", "on"))
_FALSE = frozenset(("0", "f", "false", "n", "no", "off"))
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Parser:
    """How the text of a setting becomes its value."""

    parse: Callable[[str], Any]
    reads_file: bool = False
    """The value is a file that has to be readable when the program starts."""


@dataclass(frozen=True, slots=True)
class Named:
    """The name in the ini file, where it differs from the attribute's."""

    name: str


def boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        # isdecimal alone would let in digits of other scripts.
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and low <= int(text) <= high):
            raise ValueError(f"{text!r} is not a number from {low} to {high}")
        return int(text)

    return parse


def workers(text: str) -> int:
    """A number of processes; `auto` is one for each processor this process may use."""
    if text.lower() == "auto":
        return max(1, len(os.sched_getaffinity(0)))
    try:
        return integer(0, MOST_WORKERS)(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither auto nor a number from 0 to {MOST_WORKERS}") from None


def seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"{text!r} is not a number of seconds from {low:g} to {high:g}")
        return value

    return parse


def choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"{text!r} is not one of {', '.join(allowed)}")
        return text.lower()

    return parse


def words(text: str) -> tuple[str, ...]:
    """Items separated by commas, spaces or both; each once, in order."""
    return tuple(dict.fromkeys(text.replace(",", " ").split()))


def items(text: str) -> tuple[str, ...]:
    """Items separated by commas, which may hold spaces; each once, in order."""
    return tuple(dict.fromkeys(item.strip() for item in text.split(",") if item.strip()))


def headers(text: str) -> tuple[str, ...]:
    found = items(text)
    for name in found:
        if not _HEADER.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of an HTTP header")
    return found


def alpn(text: str) -> tuple[str, ...]:
    found = items(text)
    unknown = [name for name in found if name not in ("http/1.1", "h2")]
    if unknown or not found:
        raise ValueError(f"{(unknown or [text])[0]!r} is not one of http/1.1, h2")
    return found


def optional_path(text: str) -> Path | None:
    """An absolute path; relative ones start at the current directory. None for an empty text."""
    return required_path(text) if text else None


def required_path(text: str) -> Path:
    if not text:
        raise ValueError("a path is needed")
    if "\0" in text:
        raise ValueError("a path cannot hold a NUL character")
    return Path(text).absolute()


def bind_address(text: str) -> str:
    if text == "localhost":
        return text
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        raise ValueError(f"{text!r} is neither an IP address nor localhost") from None


def external_url(text: str) -> str:
    """An https URL of scheme, host and port only, without a slash at the end."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError("not a URL such as https://localhost:6443") from None
    if url.scheme != "https" or not url.hostname or port == 0:
        raise ValueError("not a URL such as https://localhost:6443")
    if url.username is not None or url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError("a URL of scheme, host and port only, such as https://localhost:6443, is needed")
    return f"https://{url.netloc}"


def optional_https_url(text: str) -> str:
    """An https URL with an optional path, as given; empty for none."""
    if not text:
        return ""
    url = urlsplit(text)
    if url.scheme != "https" or not url.hostname or url.query or url.fragment or url.username is not None:
        raise ValueError("not an https URL without query, such as https://id.example.com/realm")
    return text


def optional_http_url(text: str) -> str:
    """An http or https URL with an optional path, as given; empty for none."""
    if not text:
        return ""
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or url.username is not None:
        raise ValueError("not a URL without query, such as http://localhost:4318")
    return text


def networks_and_hosts(text: str) -> tuple[str, ...]:
    """Networks in CIDR form, IP addresses and DNS names."""
    found = items(text)
    for item in found:
        try:
            ipaddress.ip_network(item, strict=False)
        except ValueError:
            if "/" in item or names.validate_dns1123_subdomain(item.lower().removesuffix(".")):
                fault = f"{item!r} is neither a network such as 10.0.0.0/8, nor an address, nor a host"
                raise ValueError(fault) from None
    return found


def log_path(text: str) -> str:
    """An absolute path, `-` for standard output, or empty for none."""
    return text if text in ("", "-") else str(required_path(text))


def ratio(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ValueError(f"{text!r} is not a number from 0 to 1")
    return value


def signing_algs(text: str) -> tuple[str, ...]:
    found = items(text)
    known = [f"{kind}{bits}" for kind in ("RS", "ES", "PS") for bits in (256, 384, 512)]
    unknown = [name for name in found if name not in known]
    if unknown or not found:
        raise ValueError(f"{(unknown or [text])[0]!r} is not one of {', '.join(known)}")
    return found


def namespace(text: str) -> str:
    faults = names.validate_dns1123_label(text)
    if faults:
        raise ValueError(f"{text!r} is not a namespace: {faults[0]}")
    return text


Boolean = Annotated[bool, Parser(boolean)]
Port = Annotated[int, Parser(integer(0, 65535))]
Words = Annotated[tuple[str, ...], Parser(words)]
Items = Annotated[tuple[str, ...], Parser(items)]
Text = Annotated[str, Parser(str)]
Headers = Annotated[tuple[str, ...], Parser(headers)]
BindAddress = Annotated[str, Parser(bind_address)]
Directory = Annotated[Path, Parser(required_path)]
LogPath = Annotated[str, Parser(log_path)]
OptionalPath = Annotated[Path | None, Parser(optional_path)]
File = Annotated[Path | None, Parser(optional_path, reads_file=True)]
