"""A language for who owns what: configurations applied and objects written one after the other, and what comes of it.

A scenario is a YAML document:

    name: what it shows
    schema: the name of one of the schemas below
    steps:
    - {apply: manager, object: {...}}
    - {force: manager, object: {...}}                  an apply that overrides conflicts
    - {update: manager, object: {...}}
    - {apply: manager, object: {...}, conflicts: {other: .path .path}}    refused: nothing changes
    - {schema: name}                                   from here on the schema is another one
    object: what is there in the end
    owners: {manager: .path .path}

`version: v2` in a step makes the request in another API version, `reset: .path` one that cannot change a field.
Managers are named as given; those that update have a `*` behind their name in conflicts and owners.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apimachinery import yaml_values
from apimachinery.managed_fields import compare, managers, ownership, paths, typed, validate
from apimachinery.managed_fields.managers import Manager, Owned
from apimachinery.managed_fields.ownership import ConflictsError, Rules
from apimachinery.managed_fields.paths import PathSet
from apimachinery.types import Object

_DEFAULT_VERSION = "v1"


@dataclass(frozen=True)
class Scenario:
    name: str
    schemas: dict[str, Object]
    steps: list[Object]
    schema: str
    object: Any
    owners: dict[str, str]


@dataclass
class World:
    """The live object and its managers between two steps."""

    rules: Rules
    live: Any
    managed: dict[Manager, Owned]


def load(file: Path) -> list[Scenario]:
    document, duplicates = yaml_values.load(file.read_bytes())
    assert duplicates == []
    return [
        Scenario(schemas=document["schemas"], **{"object": {}, "owners": {}, **row}) for row in document["scenarios"]
    ]


def run(scenario: Scenario) -> World:
    """Play all steps; AssertionError when one has other conflicts than it says."""
    world = World(_rules(scenario, scenario.schema), {}, {})
    for step in scenario.steps:
        if "schema" in step:
            world.rules = _rules(scenario, step["schema"])
        else:
            _play(world, step)
    return world


def _rules(scenario: Scenario, schema: str) -> Rules:
    return Rules(
        type=typed.compile_type(scenario.schemas[schema]),
        api_version=_DEFAULT_VERSION,
        serves=lambda version: version != "gone",
    )


def _play(world: World, step: Object) -> None:
    (verb,) = step.keys() & {"apply", "force", "update"}
    version = step.get("version", _DEFAULT_VERSION)
    unchangeable = step.get("reset", "").split()
    reset = PathSet.of(tuple(paths.name(part) for part in text.split(".")[1:]) for text in unchangeable)
    rules = replace(world.rules, api_version=version, reset=reset)
    if verb == "update":
        me = managers.updater(step[verb], version)
        world.managed = ownership.update(world.live, step["object"], world.managed, me, rules)
        world.live = step["object"]
        return
    faults = validate.validate(step["object"], rules.type)
    assert not faults, validate.text_of(faults)
    applied, conflicts = _apply(world, step, rules, force=verb == "force")
    assert conflicts == _normal(step.get("conflicts", {}))
    if applied is not None:
        assert applied.changed != compare.equal(world.live, applied.value)
        world.live, world.managed = applied.value, dict(applied.managed)


def _apply(
    world: World, step: Object, rules: Rules, *, force: bool
) -> tuple[ownership.Applied | None, dict[str, list[str]]]:
    me = managers.applier(step["force" if force else "apply"])
    try:
        return ownership.apply(world.live, step["object"], world.managed, me, rules, force=force), {}
    except ConflictsError as error:
        return None, _conflicts_text(error)


def label(manager: Manager) -> str:
    return manager.name if manager.applies else f"{manager.name}*"


def _conflicts_text(error: ConflictsError) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for conflict in error.conflicts:
        found.setdefault(label(conflict.manager), []).append(paths.text_of(conflict.path))
    return {name: sorted(texts) for name, texts in found.items()}


def _normal(owners: dict[str, str]) -> dict[str, list[str]]:
    return {name: sorted(text.split()) for name, text in owners.items()}


def expected_owners(scenario: Scenario) -> dict[str, list[str]]:
    return _normal(scenario.owners)


def owners_of(world: World) -> dict[str, list[str]]:
    return {label(manager): sorted(map(paths.text_of, owned.fields)) for manager, owned in world.managed.items()}
