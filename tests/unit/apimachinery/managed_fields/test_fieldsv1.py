from typing import Any

import orjson
import pytest
from hypothesis import given

from apimachinery.managed_fields import fieldsv1, paths
from apimachinery.managed_fields.paths import EMPTY, PathSet
from tests.unit.apimachinery.managed_fields.test_paths import SETS

SAME = [
    "{}",
    '{"f:a":{}}',
    '{"f:a":{},"f:b":{}}',
    '{"f:a":{"f:b":{}}}',
    '{"f:a":{".":{},"f:b":{}}}',
    '{"f:a":{"f:b":{"f:c":{}},"f:d":{}},"f:e":{}}',
    '{"f:a":{".":{},"f:b":{".":{},"f:c":{}}}}',
    '{"f:l":{"k:{\\"name\\":\\"a\\"}":{}}}',
    '{"f:l":{"k:{\\"name\\":\\"a\\"}":{".":{},"f:image":{},"f:name":{}}}}',
    '{"f:l":{"k:{\\"name\\":\\"a\\",\\"port\\":80}":{".":{}, "f:port":{}}}}',
    '{"f:l":{"k:{\\"id\\":1}":{},"k:{\\"id\\":2}":{},"k:{\\"id\\":10}":{}}}',
    '{"f:s":{"v:1":{},"v:2":{},"v:\\"a\\"":{},"v:true":{}}}',
    '{"f:s":{".":{},"v:\\"x/y\\"":{}}}',
    '{"f:l":{"i:0":{},"i:1":{".":{},"f:a":{}}}}',
    '{"f:a":{},"k:{\\"x\\":1}":{},"v:1":{},"i:0":{}}',
    '{"f:":{}}',
    '{"f:.":{}}',
    '{"f:k:{\\"a\\":1}":{}}',
    '{"f:metadata":{"f:annotations":{".":{},"f:example.com/a":{}},"f:labels":{"f:app":{}}}}',
]


@pytest.mark.parametrize("text", SAME)
def test_canonical_documents_come_back(text: str) -> None:
    document = orjson.loads(text)
    fields = fieldsv1.decode(document)
    assert orjson.dumps(fieldsv1.encode(fields)) == orjson.dumps(document)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ('{"f:b":{},"f:a":{}}', '{"f:a":{},"f:b":{}}'),
        ('{".":{}}', "{}"),
        ('{".":{},"f:a":{}}', '{"f:a":{}}'),
        ('{"f:a":{".":{}}}', '{"f:a":{}}'),
        ('{"f:a":{"f:b":{},".":{}}}', '{"f:a":{".":{},"f:b":{}}}'),
        ('{"f:a":{".":{"f:ignored":{}}}}', '{"f:a":{}}'),
        ('{"v:1.0":{},"v:2":{}}', '{"v:1":{},"v:2":{}}'),
        ('{"v:1.0":{"f:a":{}},"v:1":{"f:b":{}}}', '{"v:1":{"f:a":{},"f:b":{}}}'),
        ('{"k:{\\"b\\":1,\\"a\\":2}":{}}', '{"k:{\\"a\\":2,\\"b\\":1}":{}}'),
        ('{"v:10":{},"v:9":{}}', '{"v:9":{},"v:10":{}}'),
        ('{"i:1":{},"v:1":{},"k:{\\"a\\":1}":{},"f:a":{}}', '{"f:a":{},"k:{\\"a\\":1}":{},"v:1":{},"i:1":{}}'),
    ],
)
def test_other_documents_are_put_in_order(text: str, canonical: str) -> None:
    written = orjson.dumps(fieldsv1.encode(fieldsv1.decode(orjson.loads(text))))
    assert written == orjson.dumps(orjson.loads(canonical))


def test_null_is_the_empty_set() -> None:
    assert fieldsv1.decode(None) == EMPTY


def test_members() -> None:
    fields = fieldsv1.decode({"f:a": {".": {}, "f:b": {}}, "f:c": {"f:d": {}}})
    assert [paths.text_of(path) for path in fields] == [".a", ".a.b", ".c.d"]


@pytest.mark.parametrize(
    "document",
    [[], 1, "x", {"f:a": []}, {"f:a": None}, {"f:a": 1}, {"a": {}}, {"": {}}, {"q:a": {}}, {"v:x": {}}, {"k:1": {}}],
    ids=str,
)
def test_what_is_no_set(document: Any) -> None:
    with pytest.raises(ValueError):
        fieldsv1.decode(document)


def test_depth_is_bounded() -> None:
    document: Any = {}
    for _ in range(5000):
        document = {"f:a": document}
    with pytest.raises(ValueError, match="depth"):
        fieldsv1.decode(document)


@given(SETS)
def test_sets_come_back(fields: PathSet) -> None:
    document = fieldsv1.encode(fields)
    assert fieldsv1.decode(document) == fields
    assert fieldsv1.decode(orjson.loads(orjson.dumps(document, option=orjson.OPT_SORT_KEYS))) == fields
