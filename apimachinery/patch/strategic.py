"""Strategic merge patch: a merge patch that knows from the schema which lists merge, and by which key (rest.md A4.2).

Directives of a patch document:

- `$patch: replace|delete|merge` in an object: take the rest of it as it is, empty the object, or merge (the default);
  in an item of a merging list: make the other items the whole list, or remove the item with this merge key;
- `$retainKeys: [...]`: drop every member that is not listed;
- `$deleteFromPrimitiveList/<list>: [...]`: remove these scalars from a list;
- `$setElementOrder/<list>: [...]`: the order of a merging list, as scalars or as objects with the merge key.
"""

from typing import Any, Final, NoReturn

from apimachinery import status
from apimachinery.json_values import copy_json
from apimachinery.patch import element_order
from apimachinery.patch.element_order import Items, identity
from apimachinery.schema import Schema
from apimachinery.types import Object

_PATCH: Final = "$patch"
_RETAIN_KEYS: Final = "$retainKeys"
_DELETE_FROM: Final = "$deleteFromPrimitiveList"
_SET_ORDER: Final = "$setElementOrder"


def apply(live: Object, patch: Object, schema: Schema) -> Object:
    """The patched object; the arguments stay as they are. `schema` describes the whole object, root fields included.

    APIError: 400 for a malformed directive or list, 422 for a patch that contradicts itself (the order of its lists,
    its retained keys) or that would merge lists of lists.
    """
    return _merge_object(copy_json(live), copy_json(patch), schema)


def _malformed(message: str) -> NoReturn:
    raise status.bad_request(message)


# From here on `original` and `patch` are private copies, which the functions consume.


def _merge_object(original: Object, patch: Object, schema: Schema) -> Object:
    directive = patch.pop(_PATCH, "merge")
    if directive == "replace":
        replacement: Object = _without_directives(patch)
        return replacement
    if directive == "delete":
        return {}
    if directive != "merge":
        _malformed(f"unknown patch type: {directive}")
    _retain_keys(original, patch)
    orders = _take_parallel_lists(patch, _SET_ORDER)
    for name, values in _take_parallel_lists(patch, _DELETE_FROM).items():
        if isinstance(original.get(name), list):
            doomed = {identity(value) for value in values}
            original[name] = [item for item in original[name] if identity(item) not in doomed]
    for name, order in orders.items():
        _merge_ordered(original, patch, name, order, schema)
    for name, value in patch.items():
        if value is None or (_is_deletion(value) and not isinstance(original.get(name), dict)):
            original.pop(name, None)
        else:
            original[name] = _merge_value(original.get(name), value, _field(schema, name))
    return original


def _merge_value(original: Any, value: Any, schema: Schema) -> Any:
    if isinstance(original, dict) and isinstance(value, dict):
        if _strategy(schema) == "replace":
            return _without_directives(value)
        return _merge_object(original, value, schema)
    if isinstance(original, list) and isinstance(value, list) and _strategy(schema) == "merge":
        return _merge_list(original, value, schema)
    return _without_directives(value)


def _merge_list(original: Items, patch: Items, schema: Schema) -> Items:
    """Merge two lists of a field with the merge strategy: scalars as sets, objects by their merge key."""
    if not _objects(original, patch):
        merged = list({identity(item): item for item in (*original, *patch)}.values())
        return element_order.arrange(merged, patch, original, "")
    key = _merge_key(schema)
    if not key:
        _malformed("cannot merge lists without merge key")
    kept, added = _split_items(original, patch, key)
    if kept is None:
        return [_without_directives(item) for item in added]
    merged = _merge_items(kept, added, key, schema.get("items") or {})
    return element_order.arrange(merged, added, original, key)


def _split_items(original: Items, patch: Items, key: str) -> tuple[Items | None, Items]:
    """What stays of the original items (None: the patch replaces all of them), and the patch items to merge."""
    replace = False
    doomed = set()
    added: Items = []
    for item in patch:
        directive = item.get(_PATCH, "merge")
        if directive == "replace":
            replace = True
        elif directive == "delete":
            doomed.add(element_order.key_of(item, key))
        elif directive == "merge":
            added.append(item)
        else:
            _malformed(f"unknown patch type: {directive}")
    if replace:
        return None, added
    return [item for item in original if element_order.key_of(item, key) not in doomed], added


def _merge_items(kept: Items, added: Items, key: str, schema: Schema) -> Items:
    merged = list(kept)
    positions: dict[Any, int] = {}
    for position, item in enumerate(merged):
        positions.setdefault(element_order.key_of(item, key), position)
    for item in added:
        name = element_order.key_of(item, key)
        if name in positions:
            merged[positions[name]] = _merge_object(merged[positions[name]], item, schema)
        else:
            positions[name] = len(merged)
            merged.append(item)
    return merged


def _merge_ordered(original: Object, patch: Object, name: str, order: Items, schema: Schema) -> None:
    """Merge the list `name` and arrange it as its `$setElementOrder` says; takes the list out of the patch."""
    current, change = original.get(name), patch.pop(name, None)
    for value in (current, change):
        if value is not None and not isinstance(value, list):
            _malformed(f"expected a list in {name}")
    field = _field(schema, name)
    key = _merge_key(field) if _objects(current or [], change or []) else ""
    element_order.check(change or [], order, key)
    if change is not None:
        original[name] = _merge_value(current, change, field)
    if original.get(name):
        original[name] = element_order.arrange(original[name], order, current or [], key)


def _retain_keys(original: Object, patch: Object) -> None:
    retained = patch.pop(_RETAIN_KEYS, None)
    if retained is None:
        return
    if not isinstance(retained, list) or not all(isinstance(name, str) for name in retained):
        _malformed("invalid patch format of retainKeys")
    kept = set(retained)
    for name, value in patch.items():
        if value is not None and name not in kept and not _is_directive(name):
            raise status.patch_not_applicable()
    for name in original.keys() - kept:
        del original[name]


def _take_parallel_lists(patch: Object, directive: str) -> dict[str, Items]:
    """Remove the members `<directive>/<field>` from the patch; field -> list."""
    found: dict[str, Items] = {}
    for member in [name for name in patch if name.startswith(directive)]:
        prefix, slash, field = member.partition("/")
        value = patch.pop(member)
        if prefix != directive or not slash or not isinstance(value, list):
            what = "primitive" if directive == _DELETE_FROM else "setElementOrder"
            _malformed(f"invalid patch format of {what} list")
        found[field] = value
    return found


def _without_directives(value: Any) -> Any:
    """A value that is new to the object: no directives, and no null members, which mean removal."""
    if isinstance(value, dict):
        if value.get(_PATCH, "merge") not in ("merge", "replace", "delete"):
            _malformed(f"unknown patch type: {value[_PATCH]}")
        result = {}
        for name, item in value.items():
            if item is None or _is_directive(name) or _is_deletion(item):
                continue
            result[name] = _without_directives(item)
        return result
    if isinstance(value, list):
        items = []
        for item in value:
            if not _is_marker(item):
                items.append(_without_directives(item))
        return items
    return value


def _is_directive(name: str) -> bool:
    return name in (_PATCH, _RETAIN_KEYS) or name.startswith((f"{_DELETE_FROM}/", f"{_SET_ORDER}/"))


def _is_deletion(value: Any) -> bool:
    return isinstance(value, dict) and value.get(_PATCH) == "delete"


def _is_marker(item: Any) -> bool:
    """Whether a list item only tells what to do with the list."""
    return isinstance(item, dict) and item.get(_PATCH) in ("delete", "replace")


def _objects(*lists: Items) -> bool:
    """Whether the lists hold objects. Lists of one kind only can merge."""
    kinds = {type(item) if isinstance(item, dict | list | None) else str for items in lists for item in items}
    if list in kinds:
        raise status.patch_not_applicable()
    if len(kinds) > 1 or type(None) in kinds:
        _malformed("list element types are not identical")
    return dict in kinds


def _field(schema: Schema, name: str) -> Schema:
    properties: Schema = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    found: Schema = properties.get(name) or (additional if isinstance(additional, dict) else {})
    return found


def _strategy(schema: Schema) -> str:
    """`merge`, `replace` or, when the schema does not say, empty: objects merge, lists replace."""
    named = str(schema.get("x-kubernetes-patch-strategy", "")).split(",")
    strategies = [strategy for strategy in named if strategy and strategy != "retainKeys"]
    if strategies:
        return strategies[0]
    return "merge" if _merge_key(schema) else ""


def _merge_key(schema: Schema) -> str:
    """The declared merge key; a list of type map with a single key merges by that key."""
    if "x-kubernetes-patch-merge-key" in schema:
        return str(schema["x-kubernetes-patch-merge-key"])
    keys = schema.get("x-kubernetes-list-map-keys") or []
    return str(keys[0]) if schema.get("x-kubernetes-list-type") == "map" and len(keys) == 1 else ""
