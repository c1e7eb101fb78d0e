"""Objects that are kept as JSON and decoded when they are asked for."""

import sys

import orjson

from apimachinery.gvk import GroupResource
from apiserver.storage.base import DECODED_BYTES, Key, Stored

RESOURCE = GroupResource("g", "r")


def encoded(number: int, size: int = 10) -> Stored:
    obj = {"metadata": {"name": f"n{number}", "resourceVersion": str(number)}, "spec": "x" * size}
    return Stored.of_json(Key(RESOURCE, "", f"n{number}"), orjson.dumps(obj), number)


def test_an_object_in_use_is_decoded_once() -> None:
    stored = encoded(1)
    assert stored.object is stored.object
    assert stored.decoded() is stored.object
    assert stored.object["metadata"]["name"] == "n1"


def test_a_pass_over_many_objects_keeps_nothing_decoded() -> None:
    stored = encoded(1)
    assert stored.decoded() == stored.decoded()
    assert stored.decoded() is not stored.decoded()


def test_only_the_objects_asked_for_lately_stay_decoded() -> None:
    size = DECODED_BYTES // 16
    first, second = encoded(1, size), encoded(2, size)
    before = first.object
    assert first.object is before
    for number in range(3, 20):
        assert encoded(number, size).object["spec"]
    kept = second.object
    assert first.object is not before
    assert first.object == before
    assert second.object is kept


def test_one_object_over_the_bound_is_kept_while_it_is_the_latest() -> None:
    large = encoded(1, DECODED_BYTES * 2)
    assert large.object is large.object


def test_an_object_at_hand_is_not_copied_and_encoded_when_needed() -> None:
    obj = {"metadata": {"name": "n"}}
    stored = Stored(Key(RESOURCE, "", "n"), obj, 0)
    stored.forget_decoded()
    assert stored.object is obj
    assert stored.json == b'{"metadata":{"name":"n"}}'
    assert stored.json is stored.json


def test_json_takes_no_more_memory_than_its_length() -> None:
    stored = encoded(1, 1000)
    assert sys.getsizeof(stored.json) == len(stored.json) + sys.getsizeof(b"")
