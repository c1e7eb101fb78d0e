from pathlib import Path

import pytest
import yaml

from aggregator import remote_services
from aggregator.remote_services import RemoteService, RemoteServicesError, parse

GOOD = """\
# a comment
- group: example.grafana.app
  version: v0alpha1
  host: example-service
  port: 7443

- {port: 443, host: '::1', version: v1, group: other.example}
"""


def item(**fields: object) -> str:
    good = {"group": "g.example", "version": "v1", "host": "h", "port": 1}
    return yaml.safe_dump([good | fields], sort_keys=False)


def test_services_in_the_order_of_the_list() -> None:
    first, second = parse(GOOD, "f")
    assert first == RemoteService(group="example.grafana.app", version="v0alpha1", host="example-service", port=7443)
    assert second == RemoteService(group="other.example", version="v1", host="::1", port=443)
    assert first.name == "v0alpha1.example.grafana.app"


@pytest.mark.parametrize("text", ["", "[]", "# nothing\n", "---\n", "null\n"])
def test_no_services(text: str) -> None:
    assert parse(text, "f") == ()


@pytest.mark.parametrize("port", [1, 65535])
def test_limits_of_port(port: int) -> None:
    assert parse(item(port=port), "f")[0].port == port


@pytest.mark.parametrize("host", ["localhost", "a.b.example", "10.0.0.1", "fd00::1"])
def test_hosts(host: str) -> None:
    assert parse(item(host=host), "f")[0].host == host


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a: b", "1: must be a list of group, version, host, port", id="mapping"),
        pytest.param("\nword", "2: must be a list of group, version, host, port", id="scalar"),
        pytest.param("- a", "1: item 1: must have the fields group, version, host, port", id="item is a word"),
        pytest.param("- group: a\n  version: [", "2: not valid YAML: expected the node content", id="syntax"),
        pytest.param("- [\n---\n", "2: not valid YAML: expected the node content", id="syntax in a list"),
        pytest.param("[]\n---\n[]\n", "2: not valid YAML: but found another document", id="two documents"),
        pytest.param("- \x00", ": not valid YAML: unacceptable character", id="forbidden character"),
        pytest.param("- *a", "1: not valid YAML: found undefined alias 'a'", id="alias"),
        pytest.param(item(extra=1), "5: item 1: extra: unknown field", id="unknown field"),
        pytest.param(item(hots="x"), "5: item 1: hots: unknown field; did you mean host?", id="misspelt field"),
        pytest.param(item() + "  port: 2\n", "5: item 1: port: given twice", id="field twice"),
        pytest.param(item(host=None), "3: item 1: host: must be a string", id="null"),
        pytest.param(item(version=1), "2: item 1: version: must be a string", id="number for a string"),
        pytest.param(item(group=["a"]), "2: item 1: group: must be a string", id="list for a string"),
        pytest.param(item(host=""), "3: item 1: host: must not be empty", id="empty host"),
        pytest.param(item(host="a_b"), "3: item 1: host: a lowercase RFC 1123 subdomain", id="host"),
        pytest.param(item(host="https://h"), "3: item 1: host: a lowercase RFC 1123 subdomain", id="URL"),
        pytest.param(item(group="A"), "1: item 1: group: a lowercase RFC 1123 subdomain", id="group"),
        pytest.param(item(version="1v"), "2: item 1: version: a DNS-1035 label", id="version"),
        pytest.param(
            item(group="x" * 63 + ".y" * 95, version="v1"), "1: item 1: <version>.<group>: must be no more", id="length"
        ),
        pytest.param(item(port=0), "4: item 1: port: must be between 1 and 65535", id="port 0"),
        pytest.param(item(port=65536), "4: item 1: port: must be between 1 and 65535", id="port too high"),
        pytest.param(item(port=-1), "4: item 1: port: must be between 1 and 65535", id="negative port"),
        pytest.param(item(port="443"), "4: item 1: port: must be an integer", id="port in quotes"),
        pytest.param(item(port=1.5), "4: item 1: port: must be an integer", id="fraction"),
        pytest.param(item(port=True), "4: item 1: port: must be an integer", id="boolean"),
        pytest.param(
            "- {group: g, version: v1, host: h, port: 0x1bb}", "1: item 1: port: must be a decimal", id="hexadecimal"
        ),
        pytest.param(
            "- {group: g, version: v1, host: h, port: 1:30}", "1: item 1: port: must be a decimal", id="base 60"
        ),
        pytest.param(item() + "- version: v1\n  host: h\n", "5: item 2: group: is missing", id="missing field"),
        pytest.param(item() + item(host="other"), "5: item 2: g.example/v1 is in item 1 already", id="duplicate"),
    ],
)
def test_lists_that_cannot_be_used(text: str, expected: str) -> None:
    with pytest.raises(RemoteServicesError) as caught:
        parse(text, "apiservices.yaml")
    prefix = "apiservices.yaml" if expected.startswith(":") else "apiservices.yaml:"
    assert str(caught.value).startswith(f"{prefix}{expected}")
    assert "\n" not in str(caught.value)


def test_as_many_services_as_there_are_priorities() -> None:
    lines = [f"- {{group: g{i}.example, version: v1, host: h, port: 1}}\n" for i in range(1001)]
    assert len(parse("".join(lines[:1000]), "f")) == 1000
    with pytest.raises(RemoteServicesError, match="f:1001: more than 1000 items"):
        parse("".join(lines), "f")


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "services.yaml"
    path.write_text(GOOD)
    assert remote_services.load(path) == parse(GOOD, "")
    path.write_bytes(b"\xff")
    with pytest.raises(RemoteServicesError, match=r"services\.yaml: not a text file in UTF-8"):
        remote_services.load(path)
    with pytest.raises(RemoteServicesError, match=r"nowhere\.yaml: No such file or directory"):
        remote_services.load(tmp_path / "nowhere.yaml")


def test_the_sample_list() -> None:
    sample = Path(__file__).parents[3] / "conf" / "aggregation" / "apiservices.yaml"
    assert remote_services.load(sample) == (
        RemoteService(group="example.grafana.app", version="v0alpha1", host="example-service", port=7443),
    )
