"""Label and field selectors: grammar, error texts, matching, printing."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apimachinery.names import validate_label_value, validate_qualified_name
from apimachinery.selectors import FieldSelector, LabelRequirement, LabelSelector

OPERATORS = "in, notin, =, ==, !=, gt, lt"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("", ""),
        ("  \t\r\n", ""),
        ("a", "a"),
        ("!a", "!a"),
        (" ! a ", "!a"),
        ("a=b", "a=b"),
        ("a==b", "a==b"),
        ("a!=b", "a!=b"),
        ("a = b", "a=b"),
        ("a=", "a="),
        ("a!=", "a!="),
        ("a=,b", "a=,b"),
        ("a in (b)", "a in (b)"),
        ("a in(c,b)", "a in (b,c)"),
        ("a in (b, b ,b)", "a in (b)"),
        ("a notin (b)", "a notin (b)"),
        ("a in ()", "a in ()"),
        ("a in (,)", "a in ()"),
        ("a in (,b)", "a in (,b)"),
        ("a in (b,)", "a in (,b)"),
        ("a in (b,,c)", "a in (,b,c)"),
        ("a>1", "a>1"),
        ("a<0", "a<0"),
        ("b,a", "a,b"),
        ("a=2,a=1", "a=1,a=2"),
        ("in", "in"),
        ("notin in (in,notin)", "notin in (in,notin)"),
        ("in=in", "in=in"),
        ("!in", "!in"),
        ("example.com/role=x,tier in (a,b),!gone,n>5", "example.com/role=x,!gone,n>5,tier in (a,b)"),
        ("a in\n(b)", "a in (b)"),
    ],
    ids=repr,
)
def test_label_selector_prints(text: str, printed: str) -> None:
    selector = LabelSelector.parse(text)
    assert str(selector) == printed
    assert LabelSelector.parse(str(selector)) == selector
    assert selector.empty == (printed == "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",", "found ',', expected: !, identifier, or 'end of string'"),
        ("=b", "found '=', expected: !, identifier, or 'end of string'"),
        ("(", "found '(', expected: !, identifier, or 'end of string'"),
        ("==", "found '==', expected: !, identifier, or 'end of string'"),
        ("a,", "found '', expected: identifier after ','"),
        ("a,,b", "found ',', expected: identifier after ','"),
        ("a,=b", "found '=', expected: identifier after ','"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
        ("!a in (b)", "found 'in', expected: ',' or 'end of string'"),
        ("a in (b)c", "found 'c', expected: ',' or 'end of string'"),
        ("a in (b))", "found ')', expected: ',' or 'end of string'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("!!a", "unable to parse requirement: found '!', expected: identifier"),
        ("!,a", "unable to parse requirement: found ',', expected: identifier"),
        ("a b", f"unable to parse requirement: found 'b', expected: {OPERATORS}"),
        ("a gt 5", f"unable to parse requirement: found 'gt', expected: {OPERATORS}"),
        ("a!b", f"unable to parse requirement: found '!', expected: {OPERATORS}"),
        ("a (b)", f"unable to parse requirement: found '(', expected: {OPERATORS}"),
        ("a)", f"unable to parse requirement: found ')', expected: {OPERATORS}"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in", "unable to parse requirement: found '' expected: '('"),
        ("a notin )", "unable to parse requirement: found ')' expected: '('"),
        ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("a in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
        ("a in (b,", "unable to parse requirement: found '', expected: ',', or identifier"),
        ("a in (b,=)", "unable to parse requirement: found '=', expected: ',', or identifier"),
        ("a=(", "unable to parse requirement: found '(', expected: identifier"),
        ("a==!b", "unable to parse requirement: found '!', expected: identifier"),
        (
            "a>x",
            'unable to parse requirement: values[0]: Invalid value: "x": '
            "for 'Gt', 'Lt' operators, the value must be an integer",
        ),
        (
            "a<9223372036854775808",
            'unable to parse requirement: values[0]: Invalid value: "9223372036854775808": '
            "for 'Gt', 'Lt' operators, the value must be an integer",
        ),
        (
            "a>",
            'unable to parse requirement: values[0]: Invalid value: "": '
            "for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ],
    ids=repr,
)
def test_label_selector_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        LabelSelector.parse(text)
    assert str(caught.value) == message


def test_label_selector_names_the_bad_key() -> None:
    with pytest.raises(ValueError) as caught:
        LabelSelector.parse("/a/b=1")
    assert str(caught.value).startswith('unable to parse requirement: <nil>: Invalid value: "/a/b": a valid label key')


def test_label_selector_names_every_bad_value() -> None:
    with pytest.raises(ValueError) as caught:
        LabelSelector.parse("a in (_,-,ok)")
    message = str(caught.value)
    assert message.startswith('unable to parse requirement: [values[0][a]: Invalid value: "-": a valid label must be')
    assert ', values[1][a]: Invalid value: "_": a valid label must be' in message
    assert message.endswith("]")


@pytest.mark.parametrize("text", ["a\0", "\0", "a=\0b", "a=b\0,c"], ids=repr)
def test_a_null_character_does_not_end_the_selector(text: str) -> None:
    with pytest.raises(ValueError, match="Invalid value"):
        LabelSelector.parse(text)


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("", {}, True),
        ("a", {"a": ""}, True),
        ("a", {}, False),
        ("!a", {}, True),
        ("!a", {"a": "x"}, False),
        ("a=x", {"a": "x"}, True),
        ("a==x", {"a": "x"}, True),
        ("a=x", {"a": "y"}, False),
        ("a=", {}, False),
        ("a=", {"a": ""}, True),
        ("a!=x", {}, True),
        ("a!=x", {"a": "y"}, True),
        ("a!=x", {"a": "x"}, False),
        ("a in (x,y)", {"a": "y"}, True),
        ("a in (x,y)", {"a": "z"}, False),
        ("a in (x,y)", {}, False),
        ("a notin (x)", {}, True),
        ("a notin (x)", {"a": "y"}, True),
        ("a notin (x)", {"a": "x"}, False),
        ("a in ()", {"a": ""}, True),
        ("a>5", {"a": "6"}, True),
        ("a>5", {"a": "5"}, False),
        ("a>5", {"a": "10"}, True),
        ("a<5", {"a": "-10"}, True),
        ("a<5", {"a": "5"}, False),
        ("a<5", {"a": "x"}, False),
        ("a<5", {}, False),
        ("a>5", {"a": "99999999999999999999"}, False),
        ("a>5", {"a": "6_0"}, False),
        ("a=x,b=y", {"a": "x", "b": "y"}, True),
        ("a=x,b=y", {"a": "x"}, False),
        ("a=x,a!=x", {"a": "x"}, False),
    ],
)
def test_label_selector_matches(text: str, labels: dict[str, str], matches: bool) -> None:
    assert LabelSelector.parse(text).matches(labels) is matches


KEYS = st.from_regex(r"([a-z]{1,4}/)?[A-Za-z0-9][-A-Za-z0-9_.]{0,3}[A-Za-z0-9]", fullmatch=True)
VALUES = st.from_regex(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,3}[A-Za-z0-9])?)?", fullmatch=True)
REQUIREMENTS = st.one_of(
    st.tuples(KEYS).map(lambda parts: parts[0]),
    st.tuples(KEYS).map(lambda parts: f"!{parts[0]}"),
    st.tuples(KEYS, st.sampled_from(["=", "==", "!="]), VALUES).map("".join),
    st.tuples(KEYS, st.sampled_from([">", "<"]), st.integers(0, 99).map(str)).map("".join),
    st.tuples(KEYS, st.sampled_from([" in ", " notin "]), st.lists(VALUES, max_size=3)).map(
        lambda parts: f"{parts[0]}{parts[1]}({','.join(parts[2])})"
    ),
)


@given(st.lists(REQUIREMENTS, max_size=4).map(",".join), st.dictionaries(KEYS, VALUES, max_size=3))
def test_printed_label_selectors_parse_back(text: str, labels: dict[str, str]) -> None:
    selector = LabelSelector.parse(text)
    assert LabelSelector.parse(str(selector)) == selector
    assert LabelSelector.parse(str(selector)).matches(labels) == selector.matches(labels)


@given(st.lists(REQUIREMENTS, min_size=1, max_size=4))
def test_the_order_of_requirements_does_not_matter(parts: list[str]) -> None:
    shuffled = list(reversed(parts))
    assert LabelSelector.parse(",".join(parts)) == LabelSelector.parse(",".join(shuffled))


@given(KEYS, VALUES, st.dictionaries(KEYS, VALUES, max_size=3))
def test_each_condition_and_its_opposite(key: str, value: str, labels: dict[str, str]) -> None:
    for left, right in ((f"{key}={value}", f"{key}!={value}"), (key, f"!{key}")):
        assert LabelSelector.parse(left).matches(labels) != LabelSelector.parse(right).matches(labels)


@given(st.text(alphabet="ab=!(),<> \t\n/.-_in0\0\ud800ü", max_size=24))
@example("a in (" + "," * 5000 + ")")
@example(" " * 200_000 + "=")
@example("!" * 10_000)
def test_any_text_parses_or_is_a_value_error(text: str) -> None:
    try:
        selector = LabelSelector.parse(text)
    except ValueError:
        return
    assert LabelSelector.parse(str(selector)) == selector
    for requirement in selector.requirements:
        assert validate_qualified_name(requirement.key) == []
        assert all(validate_label_value(value) == [] for value in requirement.values)


def test_everything() -> None:
    assert LabelSelector.parse("") == LabelSelector()
    assert LabelSelector().matches({"a": "b"})
    assert FieldSelector.parse("") == FieldSelector()
    assert FieldSelector().matches({})
    assert FieldSelector().empty
    assert not LabelSelector((LabelRequirement("a", "exists"),)).empty


@pytest.mark.parametrize(
    ("text", "requirements", "printed"),
    [
        ("", (), ""),
        (",,", (), ""),
        ("=", (), ""),
        ("a=b", (("a", "=", "b"),), "a=b"),
        ("a==b", (("a", "=", "b"),), "a=b"),
        ("a!=b", (("a", "!=", "b"),), "a!=b"),
        ("a=", (("a", "=", ""),), "a="),
        ("=b", (("", "=", "b"),), "=b"),
        ("a=b,", (("a", "=", "b"),), "a=b"),
        ("c=d,a=b", (("a", "=", "b"), ("c", "=", "d")), "a=b,c=d"),
        ("a==c,a=b", (("a", "=", "b"), ("a", "=", "c")), "a=b,a=c"),
        (r"a=b\,c", (("a", "=", "b,c"),), r"a=b\,c"),
        (r"a=b\=c", (("a", "=", "b=c"),), r"a=b\=c"),
        (r"a=b\\", (("a", "=", "b\\"),), r"a=b\\"),
        ("a= b ", (("a", "=", " b "),), "a= b "),
        (
            "metadata.name=x,spec.b!=y",
            (("metadata.name", "=", "x"), ("spec.b", "!=", "y")),
            "metadata.name=x,spec.b!=y",
        ),
    ],
    ids=repr,
)
def test_field_selector_parses(text: str, requirements: tuple[tuple[str, str, str], ...], printed: str) -> None:
    selector = FieldSelector.parse(text)
    assert selector.requirements == requirements
    assert str(selector) == printed
    assert selector.empty == (not requirements)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        ("a=b,c", "invalid selector: 'a=b,c'; can't understand 'c'"),
        ("a!b", "invalid selector: 'a!b'; can't understand 'a!b'"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ("a===b", "invalid field selector: unescaped character in value: 61"),
        (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
        ("a=\\", "invalid field selector: invalid escape sequence: \\"),
    ],
    ids=repr,
)
def test_field_selector_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        FieldSelector.parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "fields", "matches"),
    [
        ("a=b", {"a": "b"}, True),
        ("a=b", {"a": "c"}, False),
        ("a=b", {}, False),
        ("a!=b", {}, True),
        ("a=", {}, True),
        ("a!=", {}, False),
        ("a=b,c!=d", {"a": "b", "c": "x"}, True),
        ("a=b,c!=d", {"a": "b", "c": "d"}, False),
        ("a=b,a=c", {"a": "b"}, False),
    ],
)
def test_field_selector_matches(text: str, fields: dict[str, str], matches: bool) -> None:
    assert FieldSelector.parse(text).matches(fields) is matches


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("metadata.name=x", "metadata.name", "x"),
        ("metadata.name==x,a=b", "metadata.name", "x"),
        ("metadata.name!=x", "metadata.name", None),
        ("metadata.name=", "metadata.name", ""),
        ("a=b", "metadata.name", None),
        ("", "metadata.name", None),
    ],
)
def test_field_selector_exact(text: str, field: str, value: str | None) -> None:
    assert FieldSelector.parse(text).exact(field) == value


@given(st.lists(st.tuples(st.text("ab.", min_size=1, max_size=3), st.sampled_from(["=", "!="]), st.text(max_size=6))))
def test_any_field_value_can_be_written(terms: list[tuple[str, str, str]]) -> None:
    escaped = [
        f"{field}{operator}" + "".join(f"\\{char}" if char in "\\,=" else char for char in value)
        for field, operator, value in terms
    ]
    selector = FieldSelector.parse(",".join(escaped))
    assert sorted(selector.requirements) == sorted(terms)
    assert FieldSelector.parse(str(selector)) == selector


@given(st.text(alphabet="a=!,\\ \0ü", max_size=20))
@example("\\" * 9999)
@example("," * 9999)
def test_any_field_text_parses_or_is_a_value_error(text: str) -> None:
    try:
        selector = FieldSelector.parse(text)
    except ValueError:
        return
    assert FieldSelector.parse(str(selector)) == selector
