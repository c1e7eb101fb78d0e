"""Request targets: one meaning or none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.proxy.target import BadTarget, Target, decode_path, read_target


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/", "/"),
        ("/apis", "/apis"),
        ("/apis/", "/apis/"),
        ("/apis/example.grafana.app/v0alpha1", "/apis/example.grafana.app/v0alpha1"),
        ("/apis/g/v1/namespaces/a/things/b", "/apis/g/v1/namespaces/a/things/b"),
        ("/apis/g/v1/things/", "/apis/g/v1/things/"),
        ("/apis/ex%61mple/v1", "/apis/example/v1"),
        ("/apis/example%2Eorg/v1", "/apis/example.org/v1"),
        ("/apis/g/v1/things/a%20b", "/apis/g/v1/things/a b"),
        ("/apis/g/v1/things/%C3%A9", "/apis/g/v1/things/é"),
        ("/apis/g/v1/things/a:b", "/apis/g/v1/things/a:b"),
        ("/apis/g/v1/things/a;b", "/apis/g/v1/things/a;b"),
        ("/apis/g/v1/things/a%3Bb", "/apis/g/v1/things/a;b"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a/...", "/a/..."),
        ("/a/..b", "/a/..b"),
        ("/a/b..", "/a/b.."),
    ],
)
def test_unambiguous_paths_are_decoded_once(raw: str, path: str) -> None:
    assert decode_path(raw.encode()) == path.encode()


@pytest.mark.parametrize(
    "raw",
    [
        "/..",
        "/.",
        "/a/..",
        "/a/../b",
        "/a/./b",
        "/a/.",
        "/%2e%2e/b",
        "/a/%2E%2E/b",
        "/a/.%2e/b",
        "/a/%2e/b",
        "/a/..;x=1/b",
        "/a/..%3bx/b",
        "/a/.. /b",
        "/a/..%20/b",
        "//",
        "//a",
        "/a//b",
        "/apis//v1",
        "/apis/g/v1//",
        "/apis%2Fg/v1",
        "/apis/g%2fv1",
        "/apis/g/v1/things/a%2Fb",
        "/apis/g/v1%2f..%2f..",
        "/a%5Cb",
        "/a\\b",
        "/a/..\\b",
        "/a%252e",
        "/a%252fb",
        "/a%25",
        "/a%",
        "/a%2",
        "/a%zz",
        "/a%00b",
        "/a%0ab",
        "/a%0d%0ab",
        "/a%7f",
        "/a%3Fb",
        "/a%23b",
        "/a%ff",
        "/a%c0%af",
        "/a%C3",
    ],
)
def test_ambiguous_paths_are_refused(raw: str) -> None:
    assert decode_path(raw.encode("latin-1")) is None
    refused = read_target(b"GET", raw.encode("latin-1"))
    assert isinstance(refused, BadTarget)


@pytest.mark.parametrize(
    "raw", [b"*", b"", b"http://host/apis", b"host:443", b"apis/g/v1", b"/a#b", b"/a?x#b", b"?x=/"]
)
def test_other_forms_of_a_target_are_refused(raw: bytes) -> None:
    assert isinstance(read_target(b"GET", raw), BadTarget)


@given(st.text(alphabet="/.%25eEfFa;\\ ", max_size=12))
def test_whatever_is_accepted_has_no_dot_or_empty_segment_for_any_decoder(tail: str) -> None:
    path = decode_path(b"/" + tail.encode())
    if path is None:
        return
    for _ in range(2):
        segments = path.replace(b"\\", b"/").split(b"/")[1:]
        assert not {b".", b".."} & {segment.partition(b";")[0].strip() for segment in segments}
        assert b"" not in segments[:-1]
        assert decode_path(path.replace(b" ", b"%20")) == path


@pytest.mark.parametrize(
    ("method", "raw", "long_running", "seconds", "discovery", "verb"),
    [
        ("GET", "/apis/g/v1", False, 5.0, True, "get"),
        ("GET", "/apis/g/v1/", False, 5.0, True, "get"),
        ("GET", "/apis/g", False, 60.0, False, "get"),
        ("GET", "/apis", False, 60.0, False, "get"),
        ("GET", "/a/b/c", False, 5.0, True, "get"),
        ("GET", "/api/v1/pods", False, 60.0, False, "list"),
        ("GET", "/apis/g/v1/things", False, 60.0, False, "list"),
        ("POST", "/apis/g/v1/things", False, 60.0, False, "create"),
        ("GET", "/apis/g/v1/things?watch=true", True, 60.0, False, "watch"),
        ("GET", "/apis/g/v1/things?watch", True, 60.0, False, "watch"),
        ("GET", "/apis/g/v1/things?watch=1&limit=5", True, 60.0, False, "watch"),
        ("GET", "/apis/g/v1/things?watch=false", False, 60.0, False, "list"),
        ("GET", "/apis/g/v1/things?watch=0", False, 60.0, False, "list"),
        ("GET", "/apis/g/v1/watch/things", True, 60.0, False, "watch"),
        ("GET", "/apis/g/v1/namespaces/n/things/a/log", True, 60.0, False, "get"),
        ("POST", "/apis/g/v1/namespaces/n/things/a/exec", True, 60.0, False, "create"),
        ("GET", "/apis/g/v1/namespaces/n/things/a/proxy", True, 60.0, False, "get"),
        ("GET", "/apis/g/v1/things?timeout=7s", False, 7.0, False, "list"),
        ("GET", "/apis/g/v1/things?timeout=2m", False, 60.0, False, "list"),
        ("GET", "/apis/g/v1/things?timeout=0", False, 60.0, False, "list"),
        ("GET", "/apis/g/v1/things?timeout=", False, 60.0, False, "list"),
        ("GET", "/apis/g/v1?timeout=1s", False, 1.0, True, "get"),
        ("GET", "/apis/g/v1?timeout=32s", False, 5.0, True, "get"),
        ("GET", "/healthz", False, 60.0, False, "get"),
    ],
)
def test_classification(method: str, raw: str, long_running: bool, seconds: float, discovery: bool, verb: str) -> None:
    target = read_target(method.encode(), raw.encode())
    assert isinstance(target, Target)
    assert (target.long_running, target.seconds, target.discovery, target.info.verb) == (
        long_running,
        seconds,
        discovery,
        verb,
    )
    assert target.raw_path == raw.partition("?")[0].encode()


def test_a_bad_timeout_is_a_status_document() -> None:
    refused = read_target(b"GET", b"/apis/g/v1/things?timeout=soon")
    assert isinstance(refused, BadTarget)
    assert refused.status_document
    assert refused.message.startswith("invalid timeout specified in the request URL - ")


def test_a_long_target_is_read_without_being_remembered() -> None:
    raw = b"/apis/g/v1/things?fieldSelector=" + b"x" * 5000
    assert isinstance(read_target(b"GET", raw), Target)
