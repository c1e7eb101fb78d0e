from typing import Any

import pytest

from apimachinery.managed_fields import managers, paths
from apimachinery.managed_fields.managers import Manager, Owned, applier, updater
from apimachinery.managed_fields.paths import PathSet
from apimachinery.types import Object

V1, V2 = "g/v1", "g/v2"


def entry(manager: str = "m", operation: str = "Update", **more: Any) -> Object:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": V1,
        "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:a": {}},
        **more,
    }


def owned(*names: str, version: str = V1, time: str = "") -> Owned:
    return Owned(fields=PathSet.of((paths.name(name),) for name in names), api_version=version, time=time)


@pytest.mark.parametrize(
    ("manager", "text", "identity"),
    [
        (applier("a"), '"a"', '{"manager":"a","operation":"Apply"}'),
        (applier("a", "status"), '"a" with subresource "status"', ""),
        (updater("a", V1), '"a" using g/v1', '{"manager":"a","operation":"Update","apiVersion":"g/v1"}'),
        (
            updater("a", V1, "status"),
            '"a" with subresource "status" using g/v1',
            '{"manager":"a","operation":"Update","apiVersion":"g/v1","subresource":"status"}',
        ),
        (updater('q"', "v1"), '"q\\"" using v1', ""),
    ],
)
def test_texts(manager: Manager, text: str, identity: str) -> None:
    assert str(manager) == text
    assert not identity or manager.identity == identity


@pytest.mark.parametrize(
    "given",
    [
        entry(),
        entry(operation="Apply"),
        entry(subresource="status"),
        {name: value for name, value in entry().items() if name != "time"},
        {name: value for name, value in entry().items() if name != "manager"},
    ],
)
def test_entries_come_back(given: Object) -> None:
    assert managers.encode(managers.decode([given])) == [given]


def test_an_applier_has_no_version_in_its_identity() -> None:
    assert list(managers.decode([entry(operation="Apply")])) == [applier("m")]
    assert list(managers.decode([entry()])) == [updater("m", V1)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (entry(operation="Steal"), "operation must be"),
        (entry(operation=""), "operation must be"),
        (entry(apiVersion=""), "apiVersion must not be empty"),
        (entry(fieldsType=""), "missing fieldsType in managed fields entry 0"),
        (entry(fieldsType="V2"), 'invalid fieldsType "V2" in managed fields entry 0'),
        (entry(fieldsV1={"x": {}}), "not a path element"),
        (entry(fieldsV1=[]), "expected an object"),
        (entry(time="soon"), "Invalid isoformat"),
        (None, "entry 0 is not an object"),
    ],
)
def test_entries_that_make_no_sense(given: Object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        managers.decode([given])


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00.987Z", "2026-01-01T00:00:00Z"),
        ("", ""),
        (None, ""),
    ],
)
def test_times_are_utc_seconds(given: str | None, kept: str) -> None:
    (found,) = managers.decode([entry(time=given)]).values()
    assert found.time == kept


def test_order_of_entries() -> None:
    wanted = [
        ("Apply", "", "z", V1, ""),
        ("Apply", "2026-01-01T00:00:00Z", "b", V2, ""),
        ("Apply", "2026-01-02T00:00:00Z", "a", V1, ""),
        ("Update", "2026-01-01T00:00:00Z", "a", V1, ""),
        ("Update", "2026-01-01T00:00:00Z", "a", V1, "status"),
        ("Update", "2026-01-01T00:00:00Z", "a", V2, ""),
        ("Update", "2026-01-01T00:00:00Z", "b", V1, ""),
        ("Update", "2026-01-02T00:00:00Z", "a", "g/v0", ""),
    ]
    managed = {}
    for operation, time, name, version, subresource in reversed(wanted):
        manager = applier(name, subresource) if operation == "Apply" else updater(name, version, subresource)
        managed[manager] = owned("x", version=version, time=time)
    found = managers.encode(managed)
    shown = [
        (one["operation"], one.get("time", ""), one["manager"], one["apiVersion"], one.get("subresource", ""))
        for one in found
    ]
    assert shown == wanted


@pytest.mark.parametrize(
    ("given", "reset"), [([], True), ([{}], True), (None, False), ([entry()], False), ([{}, {}], False), ({}, False)]
)
def test_reset(given: Any, reset: bool) -> None:
    assert managers.is_reset(given) is reset


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ([], [], True),
        ([entry()], [entry(time="2027-01-01T00:00:00Z")], True),
        ([entry()], [], False),
        ([entry()], [entry(manager="n")], False),
        ([entry()], [entry(fieldsV1={"f:b": {}})], False),
        ([entry()], [{name: value for name, value in entry().items() if name != "time"}], True),
    ],
)
def test_same_but_times(one: list[Object], other: list[Object], same: bool) -> None:
    assert managers.same_but_times(one, other) is same


def day(number: int) -> str:
    return f"2026-01-{number:02}T00:00:00Z"


def test_ten_updaters_are_kept() -> None:
    managed = {updater(f"m{number}", V1): owned(f"f{number}") for number in range(10)}
    managed |= {applier(f"a{number}"): owned("x") for number in range(20)}
    assert managers.capped(managed) == managed


def test_the_oldest_updaters_become_one() -> None:
    managed = {updater(f"m{number}", V1): owned(f"f{number}", time=day(number + 1)) for number in range(12)}
    capped = managers.capped(managed)
    assert len(capped) == 10
    assert capped[updater("ancient-changes", V1)] == owned("f0", "f1", "f2", time=day(3))
    assert {manager.name for manager in capped} == {"ancient-changes", *(f"m{number}" for number in range(3, 12))}


def test_an_eleventh_updater_joins_the_ancient_ones() -> None:
    managed = {updater(f"m{number}", V1): owned(f"f{number}", time=day(number + 2)) for number in range(10)}
    managed[updater("ancient-changes", V1)] = owned("old", time=day(1))
    capped = managers.capped(managed)
    assert len(capped) == 10
    assert capped[updater("ancient-changes", V1)] == owned("f0", "old", time=day(2))


def test_ancient_changes_that_are_not_the_oldest_keep_their_fields() -> None:
    managed = {updater(f"m{number}", V1): owned(f"f{number}", time=day(number + 2)) for number in range(10)}
    managed[updater("ancient-changes", V1)] = owned("old", time=day(3))
    capped = managers.capped(managed)
    assert len(capped) <= 10
    fields = {name for one in capped.values() for (name,) in one.fields}
    assert fields == {"f:old", *(f"f:f{number}" for number in range(10))}


def test_versions_have_ancient_changes_of_their_own() -> None:
    managed = {
        updater(f"m{n}", (V1, V2)[n % 2]): owned(f"f{n}", version=(V1, V2)[n % 2], time=day(n + 1)) for n in range(12)
    }
    capped = managers.capped(managed)
    assert len(capped) == 10
    assert capped[updater("ancient-changes", V1)] == owned("f0", "f2", time=day(3))
    assert capped[updater("ancient-changes", V2)] == owned("f1", "f3", version=V2, time=day(4))


def test_updaters_without_a_version_in_common_all_stay() -> None:
    managed = {updater("m", f"g/v{n}"): owned("f", version=f"g/v{n}", time=day(n + 1)) for n in range(12)}
    assert managers.capped(managed) == managed
