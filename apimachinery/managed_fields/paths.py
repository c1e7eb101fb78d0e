"""Paths to fields, and sets of them.

An element of a path is its FieldsV1 text in canonical form, so that equal elements are equal strings:

- `f:spec`: the member of an object with this name;
- `k:{"name":"a","port":80}`: the item of a list with these keys, in the order of their names;
- `v:"a"`: the item of a list of scalars with this value;
- `i:3`: the item of a list at this index.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from apimachinery.field_errors import quote

Element = str
Path = tuple[Element, ...]

_RANKS: Final = {"f": 0, "k": 1, "v": 2, "i": 3}


def name(text: str) -> Element:
    """The member of an object called `text`."""
    return f"f:{text}"


def key(keys: Mapping[str, Any]) -> Element:
    """The item of a list with these values of its keys."""
    return "k:" + _json({part: _number(value) for part, value in keys.items()})


def value(scalar: Any) -> Element:
    """The item `scalar` of a list of scalars."""
    return "v:" + _json(_number(scalar))


def index(position: int) -> Element:
    return f"i:{position}"


def parse(text: str) -> Element:
    """The canonical form of an element. ValueError when it is none."""
    kind, colon, rest = text[:1], text[1:2], text[2:]
    if colon != ":" or kind not in _RANKS:
        raise ValueError(f"{text[:100]!r} is not a path element")
    if kind == "f":
        return text
    if kind == "i":
        return index(int(rest))
    content = orjson.loads(rest)
    if kind == "v":
        return value(content)
    if not isinstance(content, dict):
        raise ValueError(f"{text[:100]!r} is not a path element: the keys are not an object")
    return key(content)


def is_name(element: Element) -> bool:
    return element.startswith("f:")


def content_of(element: Element) -> Any:
    """The name, the keys, the value or the index that an element holds."""
    return element[2:] if is_name(element) else orjson.loads(element[2:])


def text_of(path: Path) -> str:
    """A path as messages show it: `.spec.containers[name="a"].args[="x"]`."""
    return "".join(_element_text(element) for element in path)


def _element_text(element: Element) -> str:
    content = content_of(element)
    match element[:1]:
        case "f":
            return f".{content}"
        case "k":
            return "[" + ",".join(f"{part}={_scalar_text(content[part])}" for part in sorted(content)) + "]"
        case "v":
            return f"[={_scalar_text(content)}]"
        case _:
            return f"[{content}]"


def _scalar_text(scalar: Any) -> str:
    return quote(scalar) if isinstance(scalar, str) else _json(scalar)


def _number(scalar: Any) -> Any:
    """1.0 is 1: numbers compare by value."""
    return int(scalar) if isinstance(scalar, float) and scalar.is_integer() and abs(scalar) < 2**63 else scalar


def _json(content: Any) -> str:
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode()


def sort_key(element: Element) -> tuple[Any, ...]:
    """The order of elements: names, then keys, then values, then indexes; each by what it holds."""
    if is_name(element):
        return (0, element[2:])
    rank, content = _RANKS[element[:1]], content_of(element)
    match element[:1]:
        case "k":
            return (rank, tuple((part, _value_key(content[part])) for part in sorted(content)))
        case "v":
            return (rank, _value_key(content))
        case _:
            return (rank, content)


def _value_key(scalar: Any) -> tuple[int, Any]:
    """Numbers before strings before booleans before anything else; null at the end."""
    if isinstance(scalar, bool):
        return (2, scalar)
    if isinstance(scalar, int | float):
        return (0, scalar)
    if isinstance(scalar, str):
        return (1, scalar)
    return (4, "") if scalar is None else (3, _json(scalar))


@dataclass(frozen=True, slots=True)
class PathSet:
    """A set of paths as a tree: the members at this level, and the sets below its elements.

    An element can be a member, have members below it, or both. The empty path is never a member, and no set in
    `children` is empty.
    """

    members: frozenset[Element] = frozenset()
    children: Mapping[Element, "PathSet"] = field(default_factory=dict)

    @staticmethod
    def of(paths: Iterable[Path]) -> "PathSet":
        """The set of these paths; empty paths are left out. A path does not bring in its parents."""
        members: set[Element] = set()
        below: dict[Element, list[Path]] = {}
        for path in paths:
            if len(path) == 1:
                members.add(path[0])
            elif path:
                below.setdefault(path[0], []).append(path[1:])
        return PathSet(frozenset(members), {element: PathSet.of(rest) for element, rest in below.items()})

    def __bool__(self) -> bool:
        return bool(self.members or self.children)

    def __len__(self) -> int:
        return len(self.members) + sum(map(len, self.children.values()))

    def __contains__(self, path: Path) -> bool:
        node: PathSet | None = self
        for element in path[:-1]:
            node = node.children.get(element) if node is not None else None
        return bool(path) and node is not None and path[-1] in node.members

    def __iter__(self) -> Iterator[Path]:
        """Every path in order: of each level first the members, then what is below."""
        for element in sorted(self.members, key=sort_key):
            yield (element,)
        for element in sorted(self.children, key=sort_key):
            for rest in self.children[element]:
                yield (element, *rest)

    def below(self, element: Element) -> "PathSet":
        """The members below `element`, as paths relative to it."""
        return self.children.get(element, EMPTY)

    def __or__(self, other: "PathSet") -> "PathSet":
        if not other or self is other:
            return self
        if not self:
            return other
        children = dict(self.children)
        for element, theirs in other.children.items():
            ours = children.get(element)
            children[element] = theirs if ours is None else ours | theirs
        return PathSet(self.members | other.members, children)

    def __and__(self, other: "PathSet") -> "PathSet":
        common = self.children.keys() & other.children.keys()
        return tree(self.members & other.members, {one: self.children[one] & other.children[one] for one in common})

    def __sub__(self, other: "PathSet") -> "PathSet":
        """The paths that are not in `other`. Path by path: parents and children do not matter to each other."""
        if not (self.children.keys() & other.children.keys() or self.members & other.members):
            return self
        children: dict[Element, PathSet] = {}
        for element, ours in self.children.items():
            theirs = other.children.get(element)
            children[element] = ours if theirs is None else ours - theirs
        return tree(self.members - other.members, children)

    def without_subtrees(self, other: "PathSet") -> "PathSet":
        """The paths that are neither in `other` nor below a member of it."""
        if not other:
            return self
        children: dict[Element, PathSet] = {}
        for element, ours in self.children.items():
            if element not in other.members:
                theirs = other.children.get(element)
                children[element] = ours if theirs is None else ours.without_subtrees(theirs)
        return tree(self.members - other.members, children)

    def leaves(self) -> "PathSet":
        """The members with no member below them."""
        children = {element: child.leaves() for element, child in self.children.items()}
        return PathSet(self.members - self.children.keys(), children)


def tree(members: frozenset[Element], children: Mapping[Element, PathSet]) -> PathSet:
    """The set with these members and what is not empty of `children`."""
    return PathSet(members, {element: child for element, child in children.items() if child})


EMPTY: Final = PathSet()
