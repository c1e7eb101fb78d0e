"""Puts the layers of settings together: defaults.ini < custom.ini < environment."""

import dataclasses
import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aggregator
from aggregator.settings import checks, ini
from aggregator.settings.declared import ENV_PREFIX, Origin, Section, Value, Values, env_name, fields, sections
from aggregator.settings.model import FeatureToggles, Settings

TOGGLES = "feature_toggles"
ENABLE = "enable"


class SettingsError(Exception):
    """Settings that cannot be used. `problems` has one line each, naming file and line, or environment variable."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings with what a person wants to know about them."""

    settings: Settings
    warnings: tuple[str, ...]
    """One line each, e.g. a key that does not exist."""
    values: Values
    """The texts in effect by section and key, in the order of the model."""


def defaults_file() -> Path:
    """defaults.ini, beside the package's code when installed, else in the conf directory of a checkout."""
    package = Path(aggregator.__file__).parent
    installed = package / "conf" / "defaults.ini"
    return installed if installed.exists() else package.parent / "conf" / "defaults.ini"


def load(path: Path | None, env: Mapping[str, str]) -> Loaded:
    """Read all layers; `path` is the custom.ini, None for none.

    Raises SettingsError with every wrong value at once, or with everything that does not fit together, files that
    cannot be read included.
    """
    known = sections()
    warnings: list[str] = []
    values = _read_values(defaults_file(), known, warnings, is_default=True)
    if path is not None:
        values |= _read_values(path, known, warnings, is_default=False)
    values |= _env_values(env, known, warnings)
    values = _in_order(values, known)
    settings = _build(known, values)
    settings = dataclasses.replace(settings, feature_toggles=_toggles(settings.feature_toggles, values, warnings))
    problems, more = checks.check(settings, known, values)
    if problems:
        raise SettingsError(problems)
    return Loaded(settings=settings, warnings=(*warnings, *more), values=values)


def _in_order(values: Values, known: Collection[Section]) -> Values:
    wanted = [(section.name, field.key) for section in known for field in section.fields]
    missing = [
        f"{defaults_file()}: [{section}] {key}: is missing" for section, key in wanted if (section, key) not in values
    ]
    if missing:
        raise SettingsError(missing)
    return {name: values[name] for name in wanted}


def _read_values(path: Path, known: Collection[Section], warnings: list[str], *, is_default: bool) -> Values:
    try:
        entries = ini.parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise SettingsError([f"{path}: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{path}: not a text file in UTF-8"]) from None
    except ini.IniError as error:
        raise SettingsError([str(error)]) from None
    values: Values = {}
    for entry in entries:
        place = f"{path}:{entry.line}"
        unknown = _unknown(entry, known)
        if unknown:
            warnings.append(f"{place}: {unknown}")
            continue
        if not entry.key:
            continue
        if (entry.section, entry.key) in values:
            before = values[entry.section, entry.key].origin.place
            warnings.append(f"{place}: [{entry.section}] {entry.key}: was set before at {before}; this one counts")
        values[entry.section, entry.key] = Value(entry.section, entry.key, entry.value, Origin(place, is_default))
    return values


def _unknown(entry: ini.Entry, known: Collection[Section]) -> str:
    """What to warn of about an entry nobody reads; empty when it is known, or its section was warned of already."""
    section = next((section for section in known if section.name == entry.section), None)
    if section is None:
        names = [section.name for section in known]
        return "" if entry.key else f"unknown section [{entry.section}]{nearest(entry.section, names)}"
    keys = [field.key for field in section.fields]
    if not entry.key or entry.key in keys:
        return ""
    elsewhere = [other.name for other in known if any(field.key == entry.key for field in other.fields)]
    hint = f"; there is one in [{elsewhere[0]}]" if elsewhere else nearest(entry.key, keys)
    return f"[{entry.section}] {entry.key}: unknown key{hint}"


def nearest(name: str, candidates: Iterable[str]) -> str:
    """`; did you mean ...?` with the most similar candidate, or nothing when none is similar."""
    by_folded = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.lower(), by_folded, n=1)
    return f"; did you mean {by_folded[found[0]]}?" if found else ""


def _env_values(env: Mapping[str, str], known: Collection[Section], warnings: list[str]) -> Values:
    names = {
        env_name(section.name, field.key): (section.name, field.key) for section in known for field in section.fields
    }
    values: Values = {}
    for variable in sorted(env):
        if variable in names:
            # Empty means not set, as in Grafana: container files often pass variables on that are empty.
            if env[variable]:
                section, key = names[variable]
                values[section, key] = Value(section, key, env[variable].strip(), Origin(variable))
        elif variable.startswith(ENV_PREFIX):
            warnings.append(f"{variable}: unknown setting in the environment{nearest(variable, names)}")
    return values


def _build(known: Collection[Section], values: Values) -> Settings:
    problems: list[str] = []
    tree: dict[str, Any] = {}
    for section in known:
        arguments: dict[str, Any] = {}
        for field in section.fields:
            value = values[section.name, field.key]
            try:
                arguments[field.attribute] = field.parser.parse(value.text)
            except ValueError as error:
                problems.append(value.problem(str(error)))
        if not problems:
            tree[section.attribute] = section.type(**arguments)
    if problems:
        raise SettingsError(problems)
    return Settings(**tree)


def _toggles(toggles: FeatureToggles, values: Values, warnings: list[str]) -> FeatureToggles:
    """Turn on what the `enable` list names, except where a toggle has been set by its own name."""
    attributes = {field.key: field.attribute for field in fields(FeatureToggles) if field.key != ENABLE}
    switched: dict[str, Any] = {}
    for name in toggles.enable:
        if name not in attributes:
            warnings.append(values[TOGGLES, ENABLE].problem(f"unknown toggle {name}{nearest(name, attributes)}"))
        elif values[TOGGLES, name].origin.is_default:
            switched[attributes[name]] = True
    return dataclasses.replace(toggles, **switched)
