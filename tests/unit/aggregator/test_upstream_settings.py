"""Annotations of APIServices and further addresses of ExternalNames."""

import pytest

from aggregator.api import apiservice_strategy, externalname
from aggregator.upstream import settings
from aggregator.upstream.backend import Backend, backend_for, split_host
from aggregator.upstream.settings import DEFAULT, BackendSettings, from_annotations
from apimachinery.types import Object

PREFIX = "aggregator.grafana.app/"


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        (None, DEFAULT),
        ({"other": "1"}, DEFAULT),
        ({f"{PREFIX}request-timeout": "1m30s"}, BackendSettings(request_timeout=90.0)),
        ({f"{PREFIX}request-timeout": "2h"}, DEFAULT),
        ({f"{PREFIX}request-timeout": "-1s"}, DEFAULT),
        ({f"{PREFIX}request-timeout": "soon"}, DEFAULT),
        ({f"{PREFIX}max-connections": "7"}, BackendSettings(max_connections=7)),
        ({f"{PREFIX}max-connections": "0"}, DEFAULT),
        ({f"{PREFIX}max-pending": "0"}, BackendSettings(max_pending=0)),
        ({f"{PREFIX}own-connections": "0"}, BackendSettings(own_connections=0)),
        ({f"{PREFIX}own-connections": "-1"}, DEFAULT),
        ({f"{PREFIX}max-pending": "1e3"}, DEFAULT),
        ({f"{PREFIX}max-pending": "9" * 30}, DEFAULT),
    ],
)
def test_settings_of_annotations(annotations: dict[str, str] | None, expected: BackendSettings) -> None:
    assert from_annotations(annotations) == expected
    bad = expected == DEFAULT and any(key.startswith(PREFIX) for key in annotations or {})
    assert bool(settings.faults(annotations)) == bad


def test_a_bad_annotation_is_refused_where_it_is_written() -> None:
    obj: Object = {
        "metadata": {"name": "v1.a", "annotations": {f"{PREFIX}max-pending": "many", f"{PREFIX}request-timeout": "5s"}},
        "spec": {"group": "a", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1},
    }
    (error,) = apiservice_strategy.validate(obj)
    assert str(error) == (
        'metadata.annotations[aggregator.grafana.app/max-pending]: Invalid value: "many": '
        'must be a number from "0" to "1000000"'
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host", ("host", 443)),
        ("host:1", ("host", 1)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("fd00::1", ("fd00::1", 443)),
        ("[fd00::1]", ("fd00::1", 443)),
        ("[fd00::1]:8443", ("fd00::1", 8443)),
    ],
)
def test_split_host(text: str, expected: tuple[str, int]) -> None:
    assert split_host(text, 443) == expected
    assert externalname.address_faults(text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("host:0", "port must be a number from 1 to 65535"),
        ("host:65536", "port must be a number from 1 to 65535"),
        ("host:http", ""),
        ("https://host:1", "must be a host without a scheme"),
        ("host/path", "must be a host without a path"),
        ("UPPER:1", "must be a DNS name or an IP address"),
        ("", "must be a DNS name or an IP address"),
        ("[host]:1:2", ""),
    ],
)
def test_addresses_that_are_none(text: str, fault: str) -> None:
    faults = externalname.address_faults(text)
    assert faults
    assert faults[0].startswith(fault)


def _external(hosts: object) -> Object:
    return {"metadata": {"name": "svc", "namespace": "ns"}, "spec": {"host": "one", "hosts": hosts}}


def _backend(hosts: object) -> Backend:
    service: Object = {
        "metadata": {"name": "v1.a"},
        "spec": {"group": "a", "version": "v1", "service": {"namespace": "ns", "name": "svc", "port": 7443}},
    }
    found = backend_for(service, lambda namespace, name: _external(hosts))
    assert isinstance(found, Backend)
    return found


def test_a_backend_has_every_address_once() -> None:
    found = _backend(["two", "one:7443", "two:7443", "one:1", "bad:port", "[::1]:5"])
    assert found.addresses == (("one", 7443), ("two", 7443), ("one", 1), ("::1", 5))
    assert (found.host, found.authority, found.server_name) == ("one", "one:7443", "svc.ns.svc")
    each = found.alternatives()
    assert [(item.host, item.port, item.more) for item in each] == [(*address, ()) for address in found.addresses]


@pytest.mark.parametrize("hosts", [None, []], ids=str)
def test_a_host_alone_stays_as_it_was(hosts: object) -> None:
    found = _backend(hosts)
    assert found.addresses == (("one", 7443),)
    assert found.alternatives() == (found,)


def test_further_addresses_are_validated_where_they_are_written() -> None:
    errors = externalname.ExternalNameStrategy().validate_create(_external(["good:1", "https://bad"]))
    assert [str(error) for error in errors] == [
        'spec.hosts[1]: Invalid value: "https://bad": must be a host without a scheme'
    ]
