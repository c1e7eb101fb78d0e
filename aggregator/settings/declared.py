"""Which settings exist, read off the model, and the text of one with its origin."""

import dataclasses
import typing
from collections.abc import Iterable
from dataclasses import dataclass

from aggregator.settings.model import Settings
from aggregator.settings.values import Named, Parser

ENV_PREFIX = "GF_"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the text of a setting comes from."""

    place: str
    """`<file>:<line>`, or the name of an environment variable."""
    is_default: bool = False

    def __str__(self) -> str:
        return "default" if self.is_default else self.place


@dataclass(frozen=True, slots=True)
class Value:
    """The text of one setting that is in effect."""

    section: str
    key: str
    text: str
    origin: Origin

    def problem(self, text: str) -> str:
        """One line that says what is wrong with this setting, and where to mend it."""
        return f"{self.origin.place}: [{self.section}] {self.key}: {text}"


Values = dict[tuple[str, str], Value]
"""The texts in effect, by section and key."""


@dataclass(frozen=True, slots=True)
class Field:
    """A setting as declared in the model."""

    attribute: str
    key: str
    parser: Parser


@dataclass(frozen=True, slots=True)
class Section:
    attribute: str
    name: str
    type: type
    fields: tuple[Field, ...]


def _name(attribute: str, metadata: Iterable[object]) -> str:
    return next((item.name for item in metadata if isinstance(item, Named)), attribute)


def fields(section: type) -> tuple[Field, ...]:
    hints = typing.get_type_hints(section, include_extras=True)
    found = []
    for field in dataclasses.fields(section):
        metadata = hints[field.name].__metadata__
        parser = next(item for item in metadata if isinstance(item, Parser))
        found.append(Field(field.name, _name(field.name, metadata), parser))
    return tuple(found)


def sections() -> tuple[Section, ...]:
    """The sections and keys that exist, read off the model."""
    hints = typing.get_type_hints(Settings, include_extras=True)
    found = []
    for field in dataclasses.fields(Settings):
        hint = hints[field.name]
        section = typing.get_args(hint)[0] if typing.get_args(hint) else hint
        name = _name(field.name, getattr(hint, "__metadata__", ()))
        found.append(Section(field.name, name, section, fields(section)))
    return tuple(found)


def env_name(section: str, key: str) -> str:
    """The environment variable of a setting, by Grafana's rule: upper case, `.` and `-` become `_`."""
    return f"{ENV_PREFIX}{section}_{key}".replace(".", "_").replace("-", "_").upper()
