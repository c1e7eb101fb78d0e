"""The remote services to register on start: a YAML list of group, version, host and port (aggregator.md 6.4)."""

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from apimachinery import names

FIELDS = ("group", "version", "host", "port")
MAX_SERVICES = 1000
"""The n-th service gets the version priority n, and an APIService allows 1000 at most (aggregator.md 1.3, rule 11)."""

_STRING_TAG = "tag:yaml.org,2002:str"
_INTEGER_TAG = "tag:yaml.org,2002:int"
_NULL_TAG = "tag:yaml.org,2002:null"


class RemoteServicesError(Exception):
    """The list cannot be used; one line that names file, line, item and field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteService:
    """One API that another server serves."""

    group: str
    version: str
    host: str
    """DNS name or IP address."""
    port: int

    @property
    def name(self) -> str:
        """Name of its APIService and of its ExternalName."""
        return f"{self.version}.{self.group}"


def load(path: Path) -> tuple[RemoteService, ...]:
    """Read a list from a file. Raises RemoteServicesError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RemoteServicesError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RemoteServicesError(f"{path}: not a text file in UTF-8") from None
    return parse(text, str(path))


def parse(text: str, file: str) -> tuple[RemoteService, ...]:
    """The services in the order of the list; none for an empty document. `file` only serves the error text."""
    root = _compose(text, file)
    if root is None or root.tag == _NULL_TAG:
        return ()
    if not isinstance(root, yaml.SequenceNode):
        raise RemoteServicesError(f"{file}:{_line(root)}: must be a list of {', '.join(FIELDS)}")
    if len(root.value) > MAX_SERVICES:
        raise RemoteServicesError(f"{file}:{_line(root.value[MAX_SERVICES])}: more than {MAX_SERVICES} items")
    services: list[RemoteService] = []
    first_at: dict[str, int] = {}
    for number, node in enumerate(root.value, start=1):
        service = _Item(file, number).service(node)
        if service.name in first_at:
            raise RemoteServicesError(
                f"{file}:{_line(node)}: item {number}: {service.group}/{service.version} is in item "
                f"{first_at[service.name]} already"
            )
        first_at[service.name] = number
        services.append(service)
    return tuple(services)


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise RemoteServicesError(f"{file}{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        # Only a character that YAML does not allow is reported without a mark.
        reason = str(error).splitlines()[0]
        raise RemoteServicesError(f"{file}: not valid YAML: {reason}") from None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


@dataclass(frozen=True, slots=True)
class _Item:
    """Reads one item of the list; every error names file, line and item."""

    file: str
    number: int

    def service(self, node: yaml.Node) -> RemoteService:
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"must have the fields {', '.join(FIELDS)}")
        nodes = self._fields(node)
        service = RemoteService(
            group=self._text(nodes["group"], "group", names.validate_dns1123_subdomain),
            version=self._text(nodes["version"], "version", names.validate_dns1035_label),
            host=self._text(nodes["host"], "host", _host_faults),
            port=self._port(nodes["port"]),
        )
        faults = names.validate_dns1123_subdomain(service.name)
        if faults:
            raise self.error(node, f"<version>.<group>: {faults[0]}")
        return service

    def error(self, node: yaml.Node, text: str) -> RemoteServicesError:
        return RemoteServicesError(f"{self.file}:{_line(node)}: item {self.number}: {text}")

    def _fields(self, node: yaml.MappingNode) -> dict[str, yaml.Node]:
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if name not in FIELDS:
                close = difflib.get_close_matches(name.lower(), FIELDS, n=1)
                raise self.error(key, f"{name}: unknown field" + (f"; did you mean {close[0]}?" if close else ""))
            if name in found:
                raise self.error(key, f"{name}: given twice")
            found[name] = value
        missing = next(_missing(found), None)
        if missing:
            raise self.error(node, f"{missing}: is missing")
        return found

    def _text(self, node: yaml.Node, field: str, faults_of: Callable[[str], list[str]]) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != _STRING_TAG:
            raise self.error(node, f"{field}: must be a string")
        text = str(node.value)
        if not text:
            raise self.error(node, f"{field}: must not be empty")
        faults = faults_of(text)
        if faults:
            raise self.error(node, f"{field}: {faults[0]}")
        return text

    def _port(self, node: yaml.Node) -> int:
        if not isinstance(node, yaml.ScalarNode) or node.tag != _INTEGER_TAG:
            raise self.error(node, "port: must be an integer")
        # YAML 1.1 knows octal, hexadecimal and base-60 integers too; as a port they are slips.
        if not re.fullmatch(r"-?(0|[1-9][0-9]{0,8})", node.value):
            raise self.error(node, "port: must be a decimal integer")
        if not 1 <= int(node.value) <= 65535:
            raise self.error(node, "port: must be between 1 and 65535")
        return int(node.value)


def _missing(found: dict[str, yaml.Node]) -> Iterator[str]:
    return (name for name in FIELDS if name not in found)


def _host_faults(host: str) -> list[str]:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return names.validate_dns1123_subdomain(host)
    return []
