import pytest

from apimachinery import negotiation
from apimachinery.negotiation import Choice
from apimachinery.status import APIError

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
TABLE_BETA = "application/json;as=Table;v=v1beta1;g=meta.k8s.io"
KUBECTL_GET = f"{TABLE},{TABLE_BETA},application/json"
KINDS = ("Table", "PartialObjectMetadata")
PARTIAL = "as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@pytest.mark.parametrize(
    ("accept", "kinds", "expected"),
    [
        pytest.param("", (), Choice(), id="empty"),
        pytest.param("  ", (), Choice(), id="blank"),
        pytest.param("*/*", (), Choice(), id="any"),
        pytest.param("*", (), Choice(), id="lone star"),
        pytest.param("application/*", (), Choice(), id="any application"),
        pytest.param("application/json", (), Choice(), id="json"),
        pytest.param("APPLICATION/JSON", (), Choice(), id="case"),
        pytest.param("application/yaml", (), Choice(media_type="application/yaml"), id="yaml"),
        pytest.param(
            "application/json;q=0.5,application/yaml", (), Choice(media_type="application/yaml"), id="quality"
        ),
        pytest.param("application/yaml;q=0,*/*", (), Choice(), id="quality zero is a refusal"),
        pytest.param("*/*,application/yaml", (), Choice(media_type="application/yaml"), id="specific before wildcard"),
        pytest.param("text/html,application/xhtml+xml,*/*;q=0.8", (), Choice(), id="browser"),
        pytest.param("application/vnd.kubernetes.protobuf,application/json", (), Choice(), id="protobuf falls to json"),
        pytest.param("application/vnd.kubernetes.protobuf, */*", (), Choice(), id="protobuf falls to any"),
        pytest.param(KUBECTL_GET, KINDS, Choice(as_kind="Table", version="v1"), id="kubectl get"),
        pytest.param(KUBECTL_GET, (), Choice(), id="kubectl get without tables"),
        pytest.param(TABLE_BETA, KINDS, Choice(as_kind="Table", version="v1beta1"), id="beta table"),
        pytest.param(
            "application/yaml;as=Table;v=v1;g=meta.k8s.io",
            KINDS,
            Choice(media_type="application/yaml", as_kind="Table", version="v1"),
            id="yaml table",
        ),
        pytest.param(
            f"application/vnd.kubernetes.protobuf;{PARTIAL},application/json;{PARTIAL},application/json",
            KINDS,
            Choice(as_kind="PartialObjectMetadata", version="v1"),
            id="metadata client",
        ),
        pytest.param("application/json;pretty=1", (), Choice(pretty=True), id="pretty"),
        pytest.param("application/json;pretty=true", (), Choice(), id="pretty only as 1"),
        pytest.param("application/json;unknown=x;flag", (), Choice(), id="unknown parameters"),
        pytest.param("application/json;stream=watch", (), Choice(), id="stream"),
        pytest.param(
            'application/json;as="Table";v="v1";g="meta.k8s.io"',
            KINDS,
            Choice(as_kind="Table", version="v1"),
            id="quoted",
        ),
        pytest.param(",,;,a,/,application/json", (), Choice(), id="malformed clauses"),
        pytest.param(
            "application/json;q=x,application/yaml", (), Choice(media_type="application/yaml"), id="bad quality"
        ),
    ],
)
def test_choose(accept: str, kinds: tuple[str, ...], expected: Choice) -> None:
    assert negotiation.choose(accept, as_kinds=kinds) == expected


@pytest.mark.parametrize(
    ("accept", "kinds"),
    [
        pytest.param("text/plain", (), id="other type"),
        pytest.param("application/vnd.kubernetes.protobuf", (), id="protobuf only"),
        pytest.param(TABLE, (), id="table not possible"),
        pytest.param("application/json;as=Table;v=v2;g=meta.k8s.io", KINDS, id="table version"),
        pytest.param("application/json;as=Table;v=v1", KINDS, id="table group missing"),
        pytest.param("application/json;as=Pod;v=v1;g=meta.k8s.io", KINDS, id="kind"),
        pytest.param("application/json;v=v1", KINDS, id="version alone"),
        pytest.param("application/yaml;stream=watch", (), id="yaml stream"),
        pytest.param("application/json;stream=other", (), id="stream kind"),
        pytest.param("application/json;sv=v1", (), id="server version"),
        pytest.param("application/json;q=0", (), id="refused"),
        pytest.param(",", (), id="no clause"),
    ],
)
def test_choose_not_acceptable(accept: str, kinds: tuple[str, ...]) -> None:
    with pytest.raises(APIError) as caught:
        negotiation.choose(accept, as_kinds=kinds)
    assert (caught.value.code, caught.value.reason) == (406, "NotAcceptable")
    assert caught.value.message == ("only the following media types are accepted: application/json, application/yaml")


def test_choose_stream() -> None:
    assert negotiation.choose("application/yaml,application/json", stream=True) == Choice()
    assert negotiation.choose(KUBECTL_GET, as_kinds=KINDS, stream=True) == Choice(as_kind="Table", version="v1")
    with pytest.raises(APIError, match=r"^only the following media types are accepted: application/json;stream=watch$"):
        negotiation.choose("application/yaml", stream=True)


V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
V2BETA1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
AGGREGATED = Choice(as_kind="APIGroupDiscoveryList", version="v2")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        pytest.param(f"{V2},{V2BETA1},application/json", AGGREGATED, id="kubectl"),
        pytest.param(f"application/json,{V2}", AGGREGATED, id="plain clause first does not win"),
        pytest.param(
            f"{V2BETA1},application/json", Choice(as_kind="APIGroupDiscoveryList", version="v2beta1"), id="beta"
        ),
        pytest.param(f"{V2};profile=nopeer", AGGREGATED, id="more parameters"),
        pytest.param(V2.replace("json", "*"), AGGREGATED, id="wildcard"),
        pytest.param(
            V2.replace("json", "yaml"),
            Choice(media_type="application/yaml", as_kind="APIGroupDiscoveryList", version="v2"),
            id="yaml",
        ),
        pytest.param(V2.replace("json", "vnd.kubernetes.protobuf") + ",application/json", Choice(), id="protobuf"),
        pytest.param("", Choice(), id="empty"),
        pytest.param(V2.replace("v=v2", "v=v3") + ",application/json", Choice(), id="unknown version"),
        pytest.param(V2.replace("apidiscovery", "other") + ",*/*", Choice(), id="other group"),
    ],
)
def test_choose_discovery(accept: str, expected: Choice) -> None:
    assert negotiation.choose_discovery(accept) == expected


def test_choose_discovery_not_acceptable() -> None:
    with pytest.raises(APIError) as caught:
        negotiation.choose_discovery(V2.replace("v=v2", "v=v3"))
    assert caught.value.code == 406


V2_ASKED = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
V2_ANSWERED = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


@pytest.mark.parametrize(
    ("accept", "v2", "v3"),
    [
        ("", "application/json", "application/json"),
        ("*/*", "application/json", "application/json"),
        ("application/*", "application/json", "application/json"),
        ("application/json", "application/json", "application/json"),
        (V2_ASKED, V2_ANSWERED, None),
        (V2_ANSWERED, V2_ANSWERED, None),
        (f"{V2_ASKED};q=0.5,application/json", "application/json", "application/json"),
        ("text/html", None, None),
        (
            "application/com.github.proto-openapi.spec.v3@v1.0+protobuf, application/json",
            "application/json",
            "application/json",
        ),
        ("application/com.github.proto-openapi.spec.v3@v1.0+protobuf", None, None),
    ],
)
def test_choose_openapi(accept: str, v2: str | None, v3: str | None) -> None:
    assert negotiation.choose_openapi_v2(accept) == v2
    assert negotiation.choose_openapi_v3(accept) == v3


@pytest.mark.parametrize(
    ("query", "agent", "wanted"),
    [
        ({}, "kubectl/v1.32.0", False),
        ({}, "", False),
        ({}, "curl/8.0", True),
        ({}, "Wget/1.2", True),
        ({}, "Mozilla/5.0 (X11)", True),
        ({}, "Mozilla/4.0", False),
        ({"pretty": ["true"]}, "", True),
        ({"pretty": ["1"]}, "", True),
        ({"pretty": ["false"]}, "curl/8.0", False),
        ({"pretty": ["nonsense"]}, "curl/8.0", False),
        ({"pretty": [""]}, "curl/8.0", True),
        ({"pretty": []}, "", False),
    ],
)
def test_pretty_wanted(query: dict[str, list[str]], agent: str, wanted: bool) -> None:
    assert negotiation.pretty_wanted(query, agent) is wanted
