import base64
from typing import Any

import pytest

from aggregator.api import apiservice, ca_bundle
from aggregator.api.apiservice_strategy import APIServiceStrategy, validate
from apimachinery import table
from apimachinery.status import APIError
from apimachinery.types import Object

NOW = 1_700_000_000.0
STAMP = "2023-11-14T22:13:20Z"
BUNDLE = base64.b64encode(b"pem").decode()
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_1035 = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
NAME_RULE = 'must be `spec.version+"."+spec.group`: '


def make(name: str | None = None, *, remote: bool = True, **fields: Any) -> Object:
    spec: Object = {"group": "example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15}
    if remote:
        spec["service"] = {"namespace": "default", "name": "svc", "port": 443}
    spec.update(fields)
    spec = {key: value for key, value in spec.items() if value is not None}
    if name is None:
        name = f"{spec.get('version', '')}.{spec.get('group', '')}"
    return {"metadata": {"name": name}, "spec": spec}


def service(**fields: Any) -> Object:
    return {"namespace": "default", "name": "svc", "port": 443, **fields}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param(make(), [], id="remote"),
        pytest.param(make(remote=False), [], id="local"),
        pytest.param(make("v1.", remote=False, group=None), [], id="legacy group"),
        pytest.param(make(groupPriorityMinimum=20000, versionPriority=1000), [], id="greatest priorities"),
        pytest.param(make(groupPriorityMinimum=1, versionPriority=1), [], id="least priorities"),
        pytest.param(make(caBundle=BUNDLE), [], id="with bundle"),
        pytest.param(make(insecureSkipTLSVerify=True), [], id="insecure"),
        pytest.param(make(service=service(port=65535)), [], id="greatest port"),
        pytest.param(
            make("other"),
            [f'metadata.name: Invalid value: "other": {NAME_RULE}"v1.example.com"'],
            id="4 name",
        ),
        pytest.param(make(".."), [], id="4 not checked when 2 fails"),
        pytest.param(make("v1/example.com"), [], id="4 not checked when 3 fails"),
        pytest.param(make(""), [], id="4 not checked when 1 fails"),
        pytest.param(
            make("v2.", group="", version="v2"),
            ["spec.group: Required value: only v1 may have an empty group and it better be legacy kube"],
            id="7 empty group",
        ),
        pytest.param(make(group="Ex_ample"), [f'spec.group: Invalid value: "Ex_ample": {SUBDOMAIN}'], id="8 group"),
        pytest.param(
            make(group="a" * 254),
            [f'spec.group: Invalid value: "{"a" * 254}": must be no more than 253 characters'],
            id="8 long group",
        ),
        pytest.param(make(version="1v"), [f'spec.version: Invalid value: "1v": {LABEL_1035}'], id="9 version"),
        pytest.param(make(version=None), [f'spec.version: Invalid value: "": {LABEL_1035}'], id="9 no version"),
        pytest.param(
            make(version="v" * 64),
            [f'spec.version: Invalid value: "{"v" * 64}": must be no more than 63 characters'],
            id="9 long version",
        ),
        *[
            pytest.param(
                make(groupPriorityMinimum=value),
                [f"spec.groupPriorityMinimum: Invalid value: {value or 0}: must be positive and less than 20000"],
                id=f"10 {value}",
            )
            for value in (0, -1, 20001, None)
        ],
        *[
            pytest.param(
                make(versionPriority=value),
                [f"spec.versionPriority: Invalid value: {value or 0}: must be positive and less than 1000"],
                id=f"11 {value}",
            )
            for value in (0, -1, 1001, None)
        ],
        pytest.param(
            make(remote=False, caBundle=BUNDLE),
            ['spec.caBundle: Invalid value: "3 bytes": local APIServices may not have a caBundle'],
            id="12 local bundle",
        ),
        pytest.param(
            make(remote=False, insecureSkipTLSVerify=True),
            ["spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify"],
            id="13 local insecure",
        ),
        pytest.param(
            make(service=service(namespace="")), ["spec.service.namespace: Required value"], id="14 namespace"
        ),
        pytest.param(make(service=service(name="")), ["spec.service.name: Required value"], id="15 name"),
        *[
            pytest.param(
                make(service=service(port=port)),
                [
                    f"spec.service.port: Invalid value: {port}: "
                    "port is not valid: must be between 1 and 65535, inclusive"
                ],
                id=f"16 {port}",
            )
            for port in (0, -1, 65536)
        ],
        pytest.param(
            make(insecureSkipTLSVerify=True, caBundle=BUNDLE),
            ["spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present"],
            id="17 insecure with bundle",
        ),
    ],
)
def test_rules(obj: Object, expected: list[str]) -> None:
    assert [str(error) for error in validate(obj)] == expected


def test_all_faults_are_reported_in_order() -> None:
    obj = make(
        "wrong",
        group="",
        version="V",
        groupPriorityMinimum=0,
        versionPriority=0,
        service={"port": 0},
        insecureSkipTLSVerify=True,
        caBundle=BUNDLE,
    )
    assert [str(error.path) for error in validate(obj)] == [
        "metadata.name",
        "spec.group",
        "spec.version",
        "spec.groupPriorityMinimum",
        "spec.versionPriority",
        "spec.service.namespace",
        "spec.service.name",
        "spec.service.port",
        "spec.insecureSkipTLSVerify",
    ]


def test_local_faults_come_together() -> None:
    obj = make(remote=False, caBundle=BUNDLE, insecureSkipTLSVerify=True)
    assert [str(error.path) for error in validate(obj)] == ["spec.caBundle", "spec.insecureSkipTLSVerify"]


def strategy() -> APIServiceStrategy:
    return APIServiceStrategy(lambda: NOW)


@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("v1.example.com", []),
        (".", ["may not be '.'"]),
        ("..", ["may not be '..'"]),
        ("a/b%", ["may not contain '/'", "may not contain '%'"]),
    ],
)
def test_name_is_a_path_segment(name: str, faults: list[str]) -> None:
    assert list(strategy().validate_name(name)) == faults


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        pytest.param({"name": "a"}, 443, id="missing"),
        pytest.param({"name": "a", "port": None}, 443, id="null"),
        pytest.param({"name": "a", "port": 0}, 0, id="an explicit zero stays"),
        pytest.param({"name": "a", "port": 8443}, 8443, id="given"),
    ],
)
def test_port_default(given: Object, stored: int) -> None:
    obj: Object = {"metadata": {}, "spec": {"service": given}}
    before = dict(given)
    strategy().default(obj)
    assert obj["spec"]["service"]["port"] == stored
    assert given == before


def test_priorities_are_always_part_of_the_object() -> None:
    obj: Object = {"metadata": {}}
    strategy().default(obj)
    assert obj["spec"] == {"groupPriorityMinimum": 0, "versionPriority": 0}


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        pytest.param("cGVt", "cGVt", id="canonical"),
        pytest.param("cG\nVt\r\n", "cGVt", id="with line breaks"),
        pytest.param("", None, id="empty is absent"),
        pytest.param(None, None, id="null is absent"),
    ],
)
def test_bundle_is_stored_in_canonical_form(given: str | None, stored: str | None) -> None:
    obj: Object = {"metadata": {}, "spec": {"caBundle": given}}
    strategy().default(obj)
    assert obj["spec"].get("caBundle") == stored


@pytest.mark.parametrize(
    ("bundle", "position"),
    [("not base64!", 3), ("cGVtA", 4), ("cG=t", 2), ("cGVt\n*", 5)],
)
def test_bad_bundle_is_a_decoding_error(bundle: str, position: int) -> None:
    with pytest.raises(APIError) as caught:
        strategy().default({"metadata": {}, "spec": {"caBundle": bundle}})
    assert caught.value.code == 400
    assert caught.value.message == (
        f'APIService in version "v1" cannot be handled as a APIService: illegal base64 data at input byte {position}'
    )


def test_bundle_round_trip() -> None:
    assert ca_bundle.decode(ca_bundle.encode(bytes(range(256)))) == bytes(range(256))


def test_create_drops_the_status_of_a_remote_service() -> None:
    obj = {**make(), "status": {"conditions": [{"type": "Available", "status": "True"}]}}
    strategy().prepare_create(obj)
    assert obj["status"] == {}


def test_create_sets_the_condition_of_a_local_service() -> None:
    obj = {**make(remote=False), "status": {"conditions": [{"type": "Available", "status": "False"}]}}
    strategy().prepare_create(obj)
    assert obj["status"] == {
        "conditions": [
            {
                "type": "Available",
                "status": "True",
                "lastTransitionTime": STAMP,
                "reason": "Local",
                "message": "Local APIServices are always available",
            }
        ]
    }


def test_update_keeps_the_status() -> None:
    old = {**make(), "status": {"conditions": [{"type": "Available", "status": "True"}]}}
    new = {**make(versionPriority=7), "status": {}}
    strategy().prepare_update(new, old)
    assert new["status"] == old["status"]
    assert new["spec"]["versionPriority"] == 7


def test_status_update_keeps_everything_else() -> None:
    old = make()
    old["metadata"] = {"name": "v1.example.com", "labels": {"a": "b"}, "resourceVersion": "5"}
    new = make(versionPriority=7)
    new["metadata"] = {"name": "v1.example.com", "labels": {}, "resourceVersion": "5"}
    new["status"] = {"conditions": []}
    strategy().prepare_status_update(new, old)
    assert new == {**old, "status": {"conditions": []}}


def test_status_of_a_condition_is_one_of_three() -> None:
    new = {**make(), "status": {"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "Maybe"}]}}
    assert [str(error) for error in strategy().validate_status_update(new, make())] == [
        'status.conditions[1].status: Unsupported value: "Maybe": supported values: "True", "False", "Unknown"'
    ]


def test_strategy_flags() -> None:
    subject = strategy()
    assert (subject.allow_unconditional_update, subject.tracks_generation, subject.has_status) == (False, False, True)


@pytest.mark.parametrize(
    ("obj", "cells"),
    [
        pytest.param(make(), ["v1.example.com", "default/svc", "Unknown", "<unknown>"], id="no condition"),
        pytest.param(
            {**make(), "status": {"conditions": [{"type": "Available", "status": "True", "reason": "Passed"}]}},
            ["v1.example.com", "default/svc", "True", "<unknown>"],
            id="available",
        ),
        pytest.param(
            {
                **make(service=service(port=7443)),
                "status": {
                    "conditions": [{"type": "Available", "status": "False", "reason": "FailedDiscoveryCheck"}],
                },
            },
            ["v1.example.com", "default/svc", "False (FailedDiscoveryCheck)", "<unknown>"],
            id="unavailable",
        ),
        pytest.param(
            {**make(remote=False), "status": {"conditions": [{"type": "Available", "status": "Unknown"}]}},
            ["v1.example.com", "Local", "Unknown", "<unknown>"],
            id="no reason",
        ),
        pytest.param(
            {
                **make(),
                "status": {"conditions": [{"type": "Other", "status": "True"}]},
                "metadata": {"name": "v1.example.com", "creationTimestamp": STAMP},
            },
            ["v1.example.com", "default/svc", "Unknown", "2m"],
            id="another condition only",
        ),
    ],
)
def test_table_cells(obj: Object, cells: list[str]) -> None:
    resource = apiservice.resource(lambda: NOW)
    document = table.build(resource.columns, [obj], list_meta={}, now=NOW + 120)
    assert document["rows"][0]["cells"] == cells
    assert [(column["name"], column["type"], column["priority"]) for column in document["columnDefinitions"]] == [
        ("Name", "string", 0),
        ("Service", "string", 0),
        ("Available", "string", 0),
        ("Age", "string", 0),
    ]


def test_declaration() -> None:
    resource = apiservice.resource(lambda: NOW)
    assert str(resource.group_resource) == "apiservices.apiregistration.k8s.io"
    assert resource.categories == ("api-extensions",)
    assert not resource.namespaced
    assert set(resource.schema["properties"]["spec"]["required"]) == {"groupPriorityMinimum", "versionPriority"}
