"""Label and field selectors: parse, match, print (rest.md A3.7).

Parsing normalises: requirements are sorted, so equal selections written in another order compare and print alike, and
`parse(str(selector)) == selector` holds.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from apimachinery import names
from apimachinery.field_errors import FieldError, Path, invalid

Operator = Literal["in", "notin", "=", "==", "!=", "gt", "lt", "exists", "!"]
FieldOperator = Literal["=", "!="]

_TOKEN: Final = re.compile(r"[ \t\r\n]*(!=|==|[=!(),<>]|[^ \t\r\n=!(),<>]+)")
_BINARY: Final[Mapping[str, Operator]] = {
    "in": "in",
    "notin": "notin",
    "=": "=",
    "==": "==",
    "!=": "!=",
    ">": "gt",
    "<": "lt",
}
_PRINTED: Final[Mapping[str, str]] = {operator: symbol for symbol, operator in _BINARY.items()}
# The empty token is the end of the text.
_PUNCTUATION: Final = frozenset({"", "!=", "==", "=", "!", "(", ")", ",", "<", ">"})
_NOT_A_REQUIREMENT: Final = _PUNCTUATION - {"!"}
_NOT_A_VALUE: Final = _PUNCTUATION - {",", ")"}
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")


def _int64(text: str) -> int | None:
    if not _INTEGER.fullmatch(text):
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


@dataclass(frozen=True, slots=True)
class LabelRequirement:
    """One condition on a label. `values` are sorted and distinct; exists and `!` have none."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet the condition. A label that is absent satisfies `!`, `!=` and `notin`."""
        value = labels.get(self.key)
        match self.operator:
            case "exists":
                return value is not None
            case "!":
                return value is None
            case "in" | "=" | "==":
                return value is not None and value in self.values
            case "notin" | "!=":
                return value is None or value not in self.values
        found, limit = _int64(value) if value is not None else None, _int64(self.values[0])
        if found is None or limit is None:
            return False
        return found > limit if self.operator == "gt" else found < limit

    def faults(self) -> Iterator[FieldError]:
        if self.operator in ("gt", "lt") and _int64(self.values[0]) is None:
            detail = "for 'Gt', 'Lt' operators, the value must be an integer"
            yield invalid(Path.of("values").index(0), self.values[0], detail)
        for position, value in enumerate(self.values):
            faults = names.validate_label_value(value)
            if faults:
                yield invalid(Path.of("values").index(position).key(self.key), value, "; ".join(faults))

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case "in" | "notin":
                return f"{self.key} {self.operator} ({','.join(self.values)})"
        return f"{self.key}{_PRINTED[self.operator]}{self.values[0]}"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements together; none selects everything."""

    requirements: tuple[LabelRequirement, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "LabelSelector":
        """Parse `a=b,c in (d,e),!f,g>5`. ValueError carries the message of a 400 answer."""
        requirements = _LabelParser(text).parse()
        return cls(tuple(sorted(requirements, key=lambda item: (item.key, str(item)))))

    @property
    def empty(self) -> bool:
        return not self.requirements

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


class _LabelParser:
    """Recursive descent over the tokens."""

    def __init__(self, text: str) -> None:
        self._tokens = [match.group(1) for match in _TOKEN.finditer(text.strip(" \t\r\n"))]
        self._position = 0

    def _peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._position += 1
        return token

    def parse(self) -> Iterator[LabelRequirement]:
        while self._peek():
            if self._peek() in _NOT_A_REQUIREMENT:
                raise ValueError(f"found '{self._peek()}', expected: !, identifier, or 'end of string'")
            try:
                yield self._requirement()
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from None
            token = self._next()
            if token not in ("", ","):
                raise ValueError(f"found '{token}', expected: ',' or 'end of string'")
            if token and self._peek() in _NOT_A_REQUIREMENT:
                raise ValueError(f"found '{self._peek()}', expected: identifier after ','")

    def _requirement(self) -> LabelRequirement:
        negated = self._peek() == "!"
        if negated:
            self._next()
        key = self._identifier()
        faults = names.validate_qualified_name(key)
        if faults:
            raise ValueError(str(invalid(Path(), key, "; ".join(faults))))
        if negated or self._peek() in ("", ","):
            return LabelRequirement(key, "!" if negated else "exists")
        token = self._next()
        operator = _BINARY.get(token)
        if operator is None:
            raise ValueError(f"found '{token}', expected: {', '.join(_BINARY.values())}")
        values = self._set() if operator in ("in", "notin") else {self._exact()}
        requirement = LabelRequirement(key, operator, tuple(sorted(values)))
        errors = [str(fault) for fault in requirement.faults()]
        if errors:
            raise ValueError(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
        return requirement

    def _identifier(self) -> str:
        token = self._next()
        if token in _PUNCTUATION:
            raise ValueError(f"found '{token}', expected: identifier")
        return token

    def _exact(self) -> str:
        return "" if self._peek() in ("", ",") else self._identifier()

    def _set(self) -> set[str]:
        opening = self._next()
        if opening != "(":
            raise ValueError(f"found '{opening}' expected: '('")
        if self._peek() in _NOT_A_VALUE:
            raise ValueError(f"found '{self._peek()}', expected: ',', ')' or identifier")
        values: set[str] = set()
        # A value may be missing before, between and after commas; it is then the empty string.
        pending = True
        while True:
            token = self._next()
            if token == ")":
                return values | {""} if pending else values
            if token == ",":
                if pending:
                    values.add("")
                pending = True
            elif token in _PUNCTUATION:
                raise ValueError(f"found '{token}', expected: ',', or identifier")
            else:
                values.add(token)
                pending = False
                if self._peek() not in (",", ")"):
                    raise ValueError(f"found '{self._peek()}', expected: ',' or ')'")


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All requirements (field, operator, value) together; none selects everything."""

    requirements: tuple[tuple[str, FieldOperator, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "FieldSelector":
        r"""Parse `metadata.name=a,spec.x!=b`; values escape `\`, `,` and `=` with a backslash.

        `==` means `=`. Which fields exist is not checked here. ValueError carries the message of a 400 answer.
        """
        requirements: list[tuple[str, FieldOperator, str]] = []
        for term in sorted(_split_terms(text)):
            if not term:
                continue
            match = re.search("!=|==?", term)
            if match is None:
                raise ValueError(f"invalid selector: '{text}'; can't understand '{term}'")
            field, value = term[: match.start()], _unescape(term[match.end() :])
            if field or value:
                requirements.append((field, "!=" if match.group() == "!=" else "=", value))
        return cls(tuple(sorted(requirements)))

    @property
    def empty(self) -> bool:
        return not self.requirements

    def matches(self, fields: Mapping[str, str]) -> bool:
        """Whether the field values meet every requirement; an absent field is the empty string."""
        return all(
            (fields.get(field, "") == value) == (operator == "=") for field, operator, value in self.requirements
        )

    def exact(self, field: str) -> str | None:
        """The value that `field` must have, or None when it is not required to equal anything."""
        for name, operator, value in self.requirements:
            if name == field and operator == "=":
                return value
        return None

    def __str__(self) -> str:
        return ",".join(f"{field}{operator}{_escape(value)}" for field, operator, value in self.requirements)


def _split_terms(text: str) -> list[str]:
    """Split at commas that no backslash precedes; escapes stay in the terms."""
    terms, start, escaped = [], 0, False
    for position, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ",":
            terms.append(text[start:position])
            start = position + 1
    return [*terms, text[start:]]


def _escape(value: str) -> str:
    return re.sub(r"[\\,=]", r"\\\g<0>", value)


def _unescape(text: str) -> str:
    out: list[str] = []
    rest = iter(text)
    for char in rest:
        if char in ",=":
            raise ValueError(f"invalid field selector: unescaped character in value: {ord(char)}")
        if char == "\\":
            char = next(rest, "")
            if char not in ("\\", ",", "="):
                raise ValueError(f"invalid field selector: invalid escape sequence: \\{char}")
        out.append(char)
    return "".join(out)
