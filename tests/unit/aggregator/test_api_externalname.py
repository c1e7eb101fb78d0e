import pytest

from aggregator.api import externalname
from apimachinery import table


@pytest.mark.parametrize(
    "host",
    ["localhost", "example.com", "example.com.", "a-b.c", "127.0.0.1", "::1", "2001:db8::1", "1password.example"],
)
def test_good_hosts(host: str) -> None:
    assert externalname.host_faults(host) == []


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("https://example.com", "must be a host without a scheme"),
        ("example.com/path", "must be a host without a path"),
        ("example.com:443", "must be a host without a port; the port belongs to spec.service.port of the APIService"),
        ("[::1]:443", "must be a host without a port; the port belongs to spec.service.port of the APIService"),
        ("[::1]", "must be an IPv6 address without brackets"),
        ("fe80::1%eth0", "must not name a zone"),
        (
            "127.0.0.256",
            "must be a DNS name or an IP address; it ends in a number but is not a valid IP address",
        ),
        ("12", "must be a DNS name or an IP address; it ends in a number but is not a valid IP address"),
    ],
)
def test_bad_hosts(host: str, text: str) -> None:
    assert externalname.host_faults(host) == [text]


@pytest.mark.parametrize("host", ["Example.com", "a_b", "-a", "a..b", " ", "a b", "."])
def test_hosts_that_are_no_dns_names(host: str) -> None:
    faults = externalname.host_faults(host)
    assert len(faults) == 1
    assert faults[0].startswith("must be a DNS name or an IP address: a lowercase RFC 1123 subdomain")


def test_an_overlong_host_is_refused() -> None:
    faults = externalname.host_faults("a" * 254)
    assert faults == ["must be a DNS name or an IP address: must be no more than 253 characters"]


def test_validation_names_the_field() -> None:
    strategy = externalname.RESOURCE.strategy
    errors = strategy.validate_create({"metadata": {"name": "a"}, "spec": {"host": "a:1"}})
    assert [str(error) for error in errors] == [
        'spec.host: Invalid value: "a:1": must be a host without a port; '
        "the port belongs to spec.service.port of the APIService"
    ]


def test_empty_host_is_required_and_missing_one_is_left_to_the_schema() -> None:
    strategy = externalname.RESOURCE.strategy
    empty = strategy.validate_create({"metadata": {"name": "a"}, "spec": {"host": ""}})
    assert [str(error) for error in empty] == ["spec.host: Required value: must be a DNS name or an IP address"]
    assert strategy.validate_create({"metadata": {"name": "a"}, "spec": {}}) == []
    assert externalname.SCHEMA["required"] == ["spec"]
    assert externalname.SCHEMA["properties"]["spec"]["required"] == ["host"]


def test_table() -> None:
    obj = externalname.external_name("default", "example", "example.com")
    document = table.build(externalname.RESOURCE.columns, [obj], list_meta={}, now=0)
    assert [column["name"] for column in document["columnDefinitions"]] == ["Name", "Host", "Age"]
    assert document["rows"][0]["cells"] == ["example", "example.com", "<unknown>"]


def test_declaration() -> None:
    resource = externalname.RESOURCE
    assert str(resource.group_resource) == "externalnames.service.grafana.app"
    assert (resource.version, resource.namespaced, resource.selectable_fields) == ("v0alpha1", True, ("spec.host",))
