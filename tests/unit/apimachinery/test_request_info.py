import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.options import parse_query
from apimachinery.request_info import RequestInfo, is_long_running, parse_request_info


def info(method: str, target: str) -> RequestInfo:
    path, _, query = target.partition("?")
    return parse_request_info(method, path, parse_query(query))


def flat(found: RequestInfo) -> tuple[str, ...]:
    names = (found.group, found.version, found.namespace, found.resource, found.subresource, found.name)
    return (found.verb, *names)


GV = "/apis/g/v1"


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        # verb, group, version, namespace, resource, subresource, name
        ("GET", f"{GV}/foos", ("list", "g", "v1", "", "foos", "", "")),
        ("GET", f"{GV}/foos/", ("list", "g", "v1", "", "foos", "", "")),
        ("HEAD", f"{GV}/foos", ("list", "g", "v1", "", "foos", "", "")),
        ("GET", f"{GV}/foos/x", ("get", "g", "v1", "", "foos", "", "x")),
        ("HEAD", f"{GV}/foos/x", ("get", "g", "v1", "", "foos", "", "x")),
        ("GET", f"{GV}/namespaces/ns/foos/x/status", ("get", "g", "v1", "ns", "foos", "status", "x")),
        ("GET", f"{GV}/namespaces/ns/foos/x/status/more/parts", ("get", "g", "v1", "ns", "foos", "status", "x")),
        ("POST", f"{GV}/namespaces/ns/foos", ("create", "g", "v1", "ns", "foos", "", "")),
        ("PUT", f"{GV}/foos/x", ("update", "g", "v1", "", "foos", "", "x")),
        ("PATCH", f"{GV}/foos/x/status", ("patch", "g", "v1", "", "foos", "status", "x")),
        ("DELETE", f"{GV}/foos/x", ("delete", "g", "v1", "", "foos", "", "x")),
        ("DELETE", f"{GV}/foos", ("deletecollection", "g", "v1", "", "foos", "", "")),
        ("OPTIONS", f"{GV}/foos", ("", "g", "v1", "", "foos", "", "")),
        ("GET", f"{GV}/foos?watch", ("watch", "g", "v1", "", "foos", "", "")),
        ("GET", f"{GV}/foos?watch=1", ("watch", "g", "v1", "", "foos", "", "")),
        ("GET", f"{GV}/foos?watch=anything", ("watch", "g", "v1", "", "foos", "", "")),
        ("GET", f"{GV}/foos?watch=False", ("list", "g", "v1", "", "foos", "", "")),
        ("GET", f"{GV}/foos?watch=0&watch=1", ("list", "g", "v1", "", "foos", "", "")),
        ("GET", f"{GV}/foos/x?watch=true", ("get", "g", "v1", "", "foos", "", "x")),
        ("GET", f"{GV}/foos?fieldSelector=metadata.name%3Dx", ("list", "g", "v1", "", "foos", "", "x")),
        ("GET", f"{GV}/foos?watch&fieldSelector=a%3Db,metadata.name%3Dx", ("watch", "g", "v1", "", "foos", "", "x")),
        ("GET", f"{GV}/foos?fieldSelector=metadata.name!%3Dx", ("list", "g", "v1", "", "foos", "", "")),
        ("GET", f"{GV}/foos?fieldSelector=metadata.name%3Da/b", ("list", "g", "v1", "", "foos", "", "")),
        ("GET", f"{GV}/foos?fieldSelector=metadata.name%3D..", ("list", "g", "v1", "", "foos", "", "")),
        ("GET", f"{GV}/foos?watch&fieldSelector=broken", ("watch", "g", "v1", "", "foos", "", "")),
        ("GET", f"{GV}/watch/foos", ("watch", "g", "v1", "", "foos", "", "")),
        ("GET", f"{GV}/watch/namespaces/ns/foos/x", ("watch", "g", "v1", "ns", "foos", "", "x")),
        ("GET", f"{GV}/proxy/foos/x/a/b", ("proxy", "g", "v1", "", "foos", "", "x")),
        ("GET", "/api/v1/namespaces", ("list", "", "v1", "", "namespaces", "", "")),
        ("GET", "/api/v1/namespaces/ns", ("get", "", "v1", "ns", "namespaces", "", "ns")),
        ("PUT", "/api/v1/namespaces/ns/status", ("update", "", "v1", "ns", "namespaces", "status", "ns")),
        ("PUT", "/api/v1/namespaces/ns/finalize", ("update", "", "v1", "ns", "namespaces", "finalize", "ns")),
        ("GET", "/api/v1/namespaces/ns/pods", ("list", "", "v1", "ns", "pods", "", "")),
        ("GET", "/api/v1/namespaces/ns/pods/p/log", ("get", "", "v1", "ns", "pods", "log", "p")),
        ("GET", "/api/v1/nodes/n", ("get", "", "v1", "", "nodes", "", "n")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_resource_requests(method: str, target: str, expected: tuple[str, ...]) -> None:
    found = info(method, target)
    assert found.is_resource
    assert flat(found) == expected
    assert found.path == target.partition("?")[0]


@pytest.mark.parametrize(
    ("method", "path", "verb"),
    [
        ("GET", "/", "get"),
        ("GET", "", "get"),
        ("GET", "/apis", "get"),
        ("GET", "/apis/g", "get"),
        ("GET", "/apis/g/v1", "get"),
        ("GET", "/apis/g/v1/", "get"),
        ("GET", "/api/v1", "get"),
        ("POST", "/healthz", "post"),
        ("GET", "/openapi/v3/apis/g/v1", "get"),
        ("PATCH", "/a/b/c/d", "patch"),
    ],
)
def test_other_requests(method: str, path: str, verb: str) -> None:
    assert info(method, path) == RequestInfo(verb=verb, path=path)


@pytest.mark.parametrize("path", ["/apis/g/v1/watch", "/api/v1/proxy", "/api/v1/watch/"])
def test_prefix_without_resource(path: str) -> None:
    with pytest.raises(ValueError, match=f"^unable to determine kind and namespace from url, {path}$"):
        info("GET", path)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (f"{GV}/foos?watch=true", True),
        (f"{GV}/watch/foos", True),
        (f"{GV}/proxy/foos/x", True),
        ("/api/v1/namespaces/ns/pods/p/log", True),
        ("/api/v1/namespaces/ns/pods/p/exec", True),
        (f"{GV}/foos", False),
        (f"{GV}/foos/x/status", False),
        ("/watch", False),
    ],
)
def test_is_long_running(target: str, expected: bool) -> None:
    assert is_long_running(info("GET", target)) is expected


SEGMENT = st.text("abcxyz-0123456789", min_size=1, max_size=8).filter(
    lambda text: text not in ("watch", "proxy", "namespaces", "status", "finalize")
)


@given(SEGMENT, SEGMENT, SEGMENT, SEGMENT, SEGMENT)
def test_paths_read_back(group: str, version: str, namespace: str, resource: str, name: str) -> None:
    path = f"/apis/{group}/{version}/namespaces/{namespace}/{resource}/{name}"
    assert parse_request_info("GET", path, {}) == RequestInfo(
        verb="get",
        path=path,
        is_resource=True,
        group=group,
        version=version,
        namespace=namespace,
        resource=resource,
        name=name,
    )
