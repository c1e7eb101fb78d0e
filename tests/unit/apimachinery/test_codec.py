from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from apimachinery import codec
from apimachinery.status import APIError

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(
        st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029\ufeff", exclude_categories=["Cc", "Cs"])
    ),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text("abcxyz.-/0123", min_size=1), children, max_size=4)
    ),
    max_leaves=15,
)


@given(JSON_VALUES)
def test_json_round_trip(value: Any) -> None:
    for pretty in (False, True):
        data = codec.encode_json(value, pretty=pretty)
        assert data.endswith(b"\n")
        assert codec.decode_body(data, codec.JSON) == value


@given(JSON_VALUES)
def test_yaml_round_trip(value: Any) -> None:
    assert codec.decode_body(codec.encode_yaml(value), codec.YAML) == value


@given(st.binary(max_size=200), st.sampled_from([codec.JSON, codec.YAML]))
def test_decode_raises_nothing_but_api_errors(data: bytes, media_type: str) -> None:
    code = 200
    try:
        codec.decode_body(data, media_type)
    except APIError as error:
        code = error.code
    assert code in (200, 400)
    if code == 200:
        assert isinstance(codec.duplicate_fields(data, media_type), list)


def test_encode_json_forms() -> None:
    assert codec.encode_json({"a": [1, "ü"]}) == '{"a":[1,"ü"]}\n'.encode()
    assert codec.encode_json({"a": 1}, pretty=True) == b'{\n  "a": 1\n}\n'


def test_encode_yaml_has_no_anchors() -> None:
    shared = {"x": 1}
    assert codec.encode_yaml({"b": shared, "a": shared}) == b"a:\n  x: 1\nb:\n  x: 1\n"


@pytest.mark.parametrize(
    ("content_type", "media_type"),
    [
        ("", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        (" Application/YAML ", "application/yaml"),
        ("; charset=utf-8", "application/json"),
    ],
)
def test_body_media_type(content_type: str, media_type: str) -> None:
    assert codec.body_media_type(content_type) == media_type


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing", None),
        ("a: 1\nb: -5\nc: +6", {"a": 1, "b": -5, "c": 6}),
        ("a: yes\nb: Off\nc: TRUE\nd: y", {"a": True, "b": False, "c": True, "d": "y"}),
        ("a: ~\nb:\nc: null", {"a": None, "b": None, "c": None}),
        ("a: 1.5\nb: 1e3\nc: .5", {"a": 1.5, "b": 1000.0, "c": 0.5}),
        ("a: 2026-01-02T03:04:05Z\nb: 2026-01-02", {"a": "2026-01-02T03:04:05Z", "b": "2026-01-02"}),
        ("a: 1:30\nb: 010", {"a": "1:30", "b": "010"}),
        ("a: '1'\nb: !!str 1\nc: !!int '7'\nd: ! 8", {"a": "1", "b": "1", "c": 7, "d": "8"}),
        ("1: a\ntrue: b", {"1": "a", "true": "b"}),
        (f"a: {2**63 - 1}\nb: {2**63}", {"a": 2**63 - 1, "b": float(2**63)}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1, c: 1}\nd: {<<: *x, c: 2}", {"a": {"b": 1, "c": 1}, "d": {"b": 1, "c": 2}}),
        ("a: {<<: [{b: 1}, {b: 2, c: 3}]}", {"a": {"b": 1, "c": 3}}),
        ("a: .inf", {"a": ".inf"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("---\na: 1\n...\n", {"a": 1}),
    ],
    ids=str,
)
def test_decode_yaml(text: str, value: Any) -> None:
    decoded = codec.decode_body(text.encode(), codec.YAML)
    assert decoded == value
    assert repr(decoded) == repr(value)


def test_yaml_aliases_are_not_shared() -> None:
    decoded = codec.decode_body(b"a: &x {b: []}\nc: *x", codec.YAML)
    decoded["a"]["b"].append(1)
    assert decoded["c"] == {"b": []}


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
)


@pytest.mark.parametrize(
    ("data", "media_type", "message"),
    [
        pytest.param(b"", codec.JSON, "json parse error", id="empty json"),
        pytest.param(b"{", codec.JSON, "json parse error", id="truncated json"),
        pytest.param(b"\xff", codec.JSON, "json parse error", id="not utf-8"),
        pytest.param(b"NaN", codec.JSON, "json parse error", id="nan"),
        pytest.param(b"[" * 100_000, codec.JSON, "json parse error", id="deep truncated json"),
        pytest.param(b"[" * 202 + b"]" * 202, codec.JSON, "exceeded max depth", id="deep json"),
        pytest.param(b'{"a":' * 300 + b"1" + b"}" * 300, codec.JSON, "exceeded max depth", id="deep json objects"),
        pytest.param(b"[" * 100_000, codec.YAML, "exceeded max depth", id="deep yaml"),
        pytest.param(b"- " * 100_000, codec.YAML, "exceeded max depth", id="deep yaml blocks"),
        pytest.param(b"{" * 100_000, codec.YAML, "map key must be a scalar", id="deep yaml keys"),
        pytest.param(BOMB.encode(), codec.YAML, "excessive aliasing", id="alias bomb"),
        pytest.param(b"&a [*a]", codec.YAML, "unknown anchor", id="recursive alias"),
        pytest.param(b"a: [1,", codec.YAML, "yaml parse error", id="truncated yaml"),
        pytest.param(b"--- 1\n--- 2", codec.YAML, "single document", id="two documents"),
        pytest.param(b"a: !!python/object:os.system x", codec.YAML, "unsupported tag", id="python tag"),
        pytest.param(b"a: {<<: 1}", codec.YAML, "map merge requires map", id="bad merge"),
        pytest.param(b"a: 1e999", codec.YAML, "not a number that JSON can hold", id="infinite"),
        pytest.param(b"a: " + b"9" * 5000, codec.YAML, "not a number that JSON can hold", id="huge integer"),
    ],
)
def test_decode_refuses(data: bytes, media_type: str, message: str) -> None:
    with pytest.raises(APIError, match=message) as caught:
        codec.decode_body(data, media_type)
    assert (caught.value.code, caught.value.reason) == (400, "BadRequest")


def test_decode_takes_what_is_just_deep_enough() -> None:
    data = b"[" * 201 + b"]" * 201
    assert codec.decode_body(data, codec.JSON) == codec.decode_body(data, codec.YAML)
    wide = b"[" + b",".join([b"{}"] * 500) + b"]"
    assert codec.decode_body(wide, codec.JSON) == [{}] * 500


def test_decode_unsupported_media_type() -> None:
    with pytest.raises(APIError) as caught:
        codec.decode_body(b"{}", "text/plain")
    assert caught.value.code == 415
    assert caught.value.message == (
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json, application/yaml"
    )


@pytest.mark.parametrize(
    ("data", "media_type", "found"),
    [
        pytest.param(b'{"a":1,"b":2}', codec.JSON, [], id="none"),
        pytest.param(b'{"a":1,"a":2,"a":3}', codec.JSON, ['duplicate field "a"'], id="once per field"),
        pytest.param(
            b'{"s":{"x":[{"p":1},{"p":1,"p":2}]},"s":1}',
            codec.JSON,
            ['duplicate field "s.x[1].p"', 'duplicate field "s"'],
            id="nested",
        ),
        pytest.param(b"a: 1\nb: 2\na: 3\n", codec.YAML, ['line 3: key "a" already set in map'], id="yaml"),
    ],
)
def test_duplicate_fields(data: bytes, media_type: str, found: list[str]) -> None:
    assert codec.duplicate_fields(data, media_type) == found


def test_last_duplicate_wins() -> None:
    assert codec.decode_body(b'{"a":1,"a":2}', codec.JSON) == {"a": 2}
    assert codec.decode_body(b"a: 1\na: 2", codec.YAML) == {"a": 2}


def test_yaml_output_is_read_alike_by_other_parsers() -> None:
    document: dict[str, Any] = {
        "on": "yes",
        "date": "2026-01-02",
        "number": "1e3",
        "empty": "",
        "null": None,
        "list": [],
        "map": {},
    }
    assert yaml.safe_load(codec.encode_yaml(document)) == document
