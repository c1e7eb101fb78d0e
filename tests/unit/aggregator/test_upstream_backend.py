"""Where an APIService is served."""

import base64
from typing import Any

import pytest

from aggregator.upstream.backend import Backend, ResolveError, backend_for, service_reference
from apimachinery.types import Object


def _apiservice(**spec: Any) -> Object:
    service = {"namespace": "ns", "name": "svc"}
    return {"metadata": {"name": "v1.g"}, "spec": {"group": "g", "version": "v1", "service": service, **spec}}


def _found(host: str) -> Object:
    return {"metadata": {"namespace": "ns", "name": "svc"}, "spec": {"host": host}}


def _resolve(apiservice: Object, host: str | None) -> Backend | ResolveError:
    def lookup(namespace: str, name: str) -> Object | None:
        assert (namespace, name) == ("ns", "svc")
        return _found(host) if host is not None else None

    return backend_for(apiservice, lookup)


@pytest.mark.parametrize(
    ("spec", "host", "authority"),
    [
        ({}, "backend", "backend:443"),
        ({"service": {"namespace": "ns", "name": "svc", "port": 7443}}, "backend", "backend:7443"),
        ({}, "10.0.0.1", "10.0.0.1:443"),
        ({}, "::1", "[::1]:443"),
        ({}, "[::1]", "[::1]:443"),
    ],
)
def test_address(spec: dict[str, Any], host: str, authority: str) -> None:
    backend = _resolve(_apiservice(**spec), host)
    assert isinstance(backend, Backend)
    assert backend.authority == authority
    assert backend.server_name == "svc.ns.svc"


@pytest.mark.parametrize(
    ("spec", "bundle", "insecure"),
    [
        ({}, None, False),
        ({"caBundle": ""}, None, False),
        ({"caBundle": base64.b64encode(b"PEM").decode()}, b"PEM", False),
        ({"caBundle": "no base64!"}, b"no base64!", False),
        ({"insecureSkipTLSVerify": True}, None, True),
        ({"insecureSkipTLSVerify": False}, None, False),
    ],
)
def test_trust(spec: dict[str, Any], bundle: bytes | None, insecure: bool) -> None:
    backend = _resolve(_apiservice(**spec), "h")
    assert isinstance(backend, Backend)
    assert (backend.ca_bundle, backend.insecure) == (bundle, insecure)


def test_a_missing_external_name() -> None:
    error = _resolve(_apiservice(), None)
    assert error == ResolveError(reason="ServiceNotFound", message='service/svc in "ns" is not present')


def test_an_external_name_without_host() -> None:
    error = _resolve(_apiservice(), "")
    assert isinstance(error, ResolveError)
    assert error.reason == "ServiceNotFound"


def test_a_lookup_that_fails() -> None:
    def lookup(namespace: str, name: str) -> Object | None:
        raise OSError("disk on fire")

    error = backend_for(_apiservice(), lookup)
    message = 'service/svc in "ns" cannot be checked due to: disk on fire'
    assert error == ResolveError(reason="ServiceAccessError", message=message)


def test_a_local_apiservice_has_no_backend() -> None:
    local: Object = {"metadata": {"name": "v1.g"}, "spec": {"group": "g", "version": "v1"}}
    assert service_reference(local) is None
    with pytest.raises(ValueError, match="local"):
        backend_for(local, lambda namespace, name: None)


@pytest.mark.parametrize(("group", "path"), [("g", "/apis/g/v1"), ("", "/api/v1")])
def test_discovery_path(group: str, path: str) -> None:
    backend = Backend(apiservice="x", group=group, version="v1", host="h", port=1, server_name="s")
    assert backend.discovery_path == path
