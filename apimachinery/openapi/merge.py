"""One OpenAPI v2 document out of those of several servers (aggregator.md 5.1)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from apimachinery.openapi.components import GVK_EXTENSION
from apimachinery.types import Object

_DEFINITIONS: Final = "#/definitions/"
_PARAMETERS: Final = "#/parameters/"


def _references(value: Any) -> Iterator[str]:
    """Every `$ref` anywhere in a value."""
    if isinstance(value, dict):
        target = value.get("$ref")
        if isinstance(target, str):
            yield target
        for member in value.values():
            yield from _references(member)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _reachable(paths: Any, sections: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The references that the paths make, directly or through what they refer to. `sections` is by prefix."""
    found: set[str] = set()
    todo = list(_references(paths))
    while todo:
        target = todo.pop()
        if target in found:
            continue
        found.add(target)
        for prefix, members in sections.items():
            if target.startswith(prefix):
                todo.extend(_references(members.get(target.removeprefix(prefix))))
    return found


def _sections(spec: Object) -> dict[str, Mapping[str, Any]]:
    return {_DEFINITIONS: spec.get("definitions") or {}, _PARAMETERS: spec.get("parameters") or {}}


def _keep_paths(spec: Object, keep: Callable[[str], bool]) -> Object:
    paths = spec.get("paths") or {}
    kept = {path: item for path, item in paths.items() if keep(path)}
    sections = _sections(spec)
    lost = _reachable(paths, sections) - _reachable(kept, sections)
    definitions = {name: schema for name, schema in sections[_DEFINITIONS].items() if _DEFINITIONS + name not in lost}
    return {**spec, "paths": kept, "definitions": definitions}


def filter_paths(spec: Object, prefixes: Sequence[str]) -> Object:
    """The document reduced to the paths that begin with one of the prefixes.

    A definition goes when only the removed paths led to it; one that no path ever led to stays. ValueError when the
    input is not an OpenAPI v2 document.
    """
    if not isinstance(spec, dict):
        raise ValueError("not an OpenAPI v2 document")
    for section in ("paths", "definitions", "parameters"):
        if not isinstance(spec.get(section) or {}, dict):
            raise ValueError("not an OpenAPI v2 document")
    return _keep_paths(spec, lambda path: path.startswith(tuple(prefixes)))


def _rewrite(value: Any, renames: Mapping[str, str]) -> Any:
    """The value with its references renamed; a copy where anything changes below."""
    if isinstance(value, dict):
        result = {name: _rewrite(member, renames) for name, member in value.items()}
        target = result.get("$ref")
        if isinstance(target, str) and target in renames:
            result["$ref"] = renames[target]
        return result
    if isinstance(value, list):
        return [_rewrite(item, renames) for item in value]
    return value


def _without_kinds(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: member for name, member in schema.items() if name != GVK_EXTENSION}
    return schema


def _free_name(name: str, schema: Any, taken: Mapping[str, Any]) -> str:
    """The first `<name>_v2`, `_v3`, ... that is free or means the same."""
    number = 2
    while True:
        candidate = f"{name}_v{number}"
        if candidate not in taken or _without_kinds(taken[candidate]) == _without_kinds(schema):
            return candidate
        number += 1


_NAMED_SECTIONS: Final = ((_DEFINITIONS, "definitions"), (_PARAMETERS, "parameters"))


def _renames(into: Object, spec: Object) -> dict[str, str]:
    """How members of the second document must be called where their names mean something else in the first.

    A renamed member changes what refers to it, and that may then differ from its namesake too: hence the repetition.
    """
    renames: dict[str, str] = {}
    while True:
        more: dict[str, str] = {}
        for prefix, section in _NAMED_SECTIONS:
            taken, added = into.get(section) or {}, spec.get(section) or {}
            for name in taken.keys() & added.keys():
                member = _rewrite(added[name], renames)
                if prefix + name not in renames and _without_kinds(taken[name]) != _without_kinds(member):
                    # A name that the second document uses for another member is no free name either.
                    more[prefix + name] = prefix + _free_name(name, member, {**added, **taken})
        if not more:
            return renames
        renames |= more


def _kind_key(kind: Any) -> str:
    return f"{kind.get('group', '')}/{kind.get('version', '')}.{kind.get('kind', '')}"


def _unite_kinds(schema: Any, other: Any) -> Any:
    """The schema with the kinds of both, when the other one adds any."""
    if not isinstance(schema, dict) or not isinstance(other, dict):
        return schema
    own, more = schema.get(GVK_EXTENSION) or [], other.get(GVK_EXTENSION) or []
    added = [kind for kind in more if kind not in own]
    return {**schema, GVK_EXTENSION: sorted([*own, *added], key=_kind_key)} if added else schema


def _renamed_section(prefix: str, members: Mapping[str, Any], renames: Mapping[str, str]) -> dict[str, Any]:
    return {
        renames.get(prefix + name, prefix + name).removeprefix(prefix): _rewrite(member, renames)
        for name, member in members.items()
    }


def _merge_two(into: Object, spec: Object) -> Object:
    present = into["paths"]
    clashes = [path for path in spec["paths"] if path in present]
    if clashes:
        spec = _keep_paths(spec, lambda path: path not in present)
    renames = _renames(into, spec)
    result = dict(into)
    result["paths"] = {**present, **_rewrite(spec["paths"], renames)}
    for prefix, section in _NAMED_SECTIONS:
        members = dict(into.get(section) or {})
        for name, member in _renamed_section(prefix, spec.get(section) or {}, renames).items():
            members[name] = _unite_kinds(members[name], member) if name in members else member
        if members or section in into:
            result[section] = members
    return result


def merge(specs: Iterable[Object]) -> Object:
    """All documents in one, in order: the first with paths gives the title, security and so on.

    A path that is there already stays as it is. A definition or parameter of the same name and content is shared,
    with the kinds of both; of the same name and other content it is renamed `<name>_v2`, `_v3`, ... A document
    without paths adds nothing; without any document the result is empty. The inputs are not mutated.
    """
    result: Object | None = None
    for spec in specs:
        if not spec.get("paths"):
            continue
        result = dict(spec) if result is None else _merge_two(result, spec)
    return result or {}
