"""Reading a YAML document field by field, so that each fault can be told with file, line and field."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import yaml

_STRING_TAG = "tag:yaml.org,2002:str"
_BOOLEAN_TAG = "tag:yaml.org,2002:bool"
_NULL_TAG = "tag:yaml.org,2002:null"

T = TypeVar("T")


class FileError(Exception):
    """A file that cannot be used; the text has one line for each fault, naming file, line and field."""


def compose(text: str, file: str) -> "Field":
    """The root of a document; FileError when it is not YAML. `file` only serves the error text."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise FileError(f"{file}{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise FileError(f"{file}: not valid YAML: {str(error).splitlines()[0]}") from None
    return Field(file, "", node)


@dataclass(frozen=True, slots=True)
class Field:
    """A value of the document and where it stands; `node` is None for one that is not there."""

    file: str
    path: str
    node: yaml.Node | None

    def fault(self, text: str, node: yaml.Node | None = None) -> FileError:
        where = node or self.node
        line = f":{where.start_mark.line + 1}" if where is not None else ""
        return FileError(f"{self.file}{line}: {self.path + ': ' if self.path else ''}{text}")

    @property
    def given(self) -> bool:
        return self.node is not None and self.node.tag != _NULL_TAG

    def fields(
        self, known: Sequence[str], *, needed: Sequence[str] = (), open_ended: bool = False
    ) -> "dict[str, Field]":
        """The members of a mapping, absent ones included. FileError for unknown, repeated and missing ones.

        `open_ended` passes over members that are not known.
        """
        if not isinstance(self.node, yaml.MappingNode):
            raise self.fault(f"must have the fields {', '.join(known)}")
        found: dict[str, Field] = {}
        for key, value in self.node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if name not in known:
                if open_ended:
                    continue
                close = difflib.get_close_matches(name.lower(), [item.lower() for item in known], n=1)
                meant = next((f"; did you mean {item}?" for item in known if item.lower() in close), "")
                raise self.fault(f"{name}: unknown field{meant}", key)
            if name in found:
                raise self.fault(f"{name}: given twice", key)
            found[name] = Field(self.file, self._below(name), value)
        for name in needed:
            if name not in found:
                raise self.fault(f"{name}: is missing")
        return {name: found.get(name, Field(self.file, self._below(name), None)) for name in known}

    def items(self) -> "Iterator[Field]":
        """The items of a list; none when it is absent."""
        if not self.given:
            return
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.fault("must be a list")
        for position, node in enumerate(self.node.value):
            yield Field(self.file, f"{self.path}[{position}]", node)

    def text(self) -> str:
        """A string that is not empty."""
        node = self.node
        if not isinstance(node, yaml.ScalarNode) or node.tag != _STRING_TAG:
            raise self.fault("must be a string")
        if not node.value:
            raise self.fault("must not be empty")
        return str(node.value)

    def optional_text(self) -> str:
        """A string; empty when it is absent."""
        return self.text() if self.given else ""

    def flag(self) -> bool:
        """True or false; false when it is absent."""
        if not self.given:
            return False
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag != _BOOLEAN_TAG:
            raise self.fault("must be true or false")
        return str(self.node.value).lower() in ("true", "yes", "on")

    def texts(self) -> tuple[str, ...]:
        """A list of strings; empty when it is absent."""
        return tuple(item.text() for item in self.items())

    def core_group_texts(self) -> tuple[str, ...]:
        """A list of strings that may be empty: the core API group has no name."""
        return tuple("" if _is_empty_text(item.node) else item.text() for item in self.items())

    def _below(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name


def _is_empty_text(node: yaml.Node | None) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _STRING_TAG and not node.value


def each(fields: Iterator[Field], read: Callable[[Field], T]) -> list[T]:
    """Read every item; FileError with all their faults at once."""
    found: list[T] = []
    faults: list[str] = []
    for field in fields:
        try:
            found.append(read(field))
        except FileError as error:
            faults.append(str(error))
    if faults:
        raise FileError("\n".join(faults))
    return found
