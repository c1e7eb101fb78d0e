"""Merging a configuration into a live value."""

from collections.abc import Iterator
from typing import Any

from apimachinery.managed_fields.paths import Element
from apimachinery.managed_fields.typed import ListType, MapType, Type


def merge(live: Any, wish: Any, of_type: Type) -> Any:
    """The live value with every field that `wish` has set to its value there. Nothing is removed.

    Scalars, atomic lists and atomic objects are replaced; the members of objects and the items of associative lists
    are merged one by one. A list keeps the order of the live value, except that items of the wish follow the order of
    the wish. The result shares parts with the arguments. `wish` is expected to fit its type (see `validate`);
    TypedError when an item of a live list has no key.
    """
    match of_type.shape(wish):
        case "map":
            assert of_type.map is not None
            return _merge_maps(live, wish, of_type.map)
        case "list":
            assert of_type.list is not None
            return _merge_lists(live, wish, of_type.list)
    return wish


def _merge_maps(live: Any, wish: Any, of_type: MapType) -> Any:
    ours = live if isinstance(live, dict) else {}
    theirs = wish if isinstance(wish, dict) else {}
    if of_type.atomic or not (ours or theirs):
        return wish
    result = dict(ours)
    for name, value in theirs.items():
        result[name] = merge(ours[name], value, of_type.member(name)) if name in ours else value
    return result


def _merge_lists(live: Any, wish: Any, of_type: ListType) -> Any:
    ours = live if isinstance(live, list) else []
    theirs = wish if isinstance(wish, list) else []
    if not of_type.associative or not (ours or theirs):
        return wish
    before = [(of_type.element_of(item), item) for item in ours]
    wanted = {of_type.element_of(item): item for item in theirs}
    found: dict[Element, Any] = {}
    for element, item in before:
        # Live items that share a key are replaced together by the one item of the wish.
        found[element] = None if element in found else item
    result: list[Any] = []
    for element, kept in _arranged([element for element, _ in before], list(wanted)):
        if element not in wanted:
            result.append(before[kept][1])
        elif element in found:
            result.append(merge(found[element], wanted[element], of_type.element))
        else:
            result.append(wanted[element])
    return result


def _arranged(live: list[Element], wish: list[Element]) -> Iterator[tuple[Element, int]]:
    """Every element once in the order of the merged list; with its position in `live` for what only `live` has.

    Elements of the wish come in the order of the wish. What only `live` has comes as early as its live neighbours
    allow: after the elements before it in `live` that the wish has not moved, and before what is new in the wish.
    """
    shared = set(live).intersection(wish)
    meetings = [element for element in wish if element in shared]
    done: set[Element] = set()
    position = met = 0
    for wanted in [*wish, None]:
        while position < len(live) and live[position] != wanted:
            here = live[position]
            if here not in shared:
                yield here, position
            elif wanted is not None and (met == len(meetings) or here == meetings[met]):
                # The lists meet here next, or have met here: first comes what the wish has before that.
                position += here in done
                break
            position += 1
        if wanted is None:
            return
        yield wanted, -1
        done.add(wanted)
        if position < len(live) and live[position] == wanted:
            position += 1
        if met < len(meetings) and meetings[met] == wanted:
            met += 1
