"""TLS towards backends: contexts, the client pair and its replacement, and one-shot requests."""

import os
import ssl
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from aggregator.upstream.backend import Backend
from aggregator.upstream.fetch import fetch
from aggregator.upstream.tls import UpstreamTLS, UpstreamTLSError
from apiserver import http1
from tests.unit.aggregator.proxy_kit import (
    PKI,
    SERVER_NAME,
    answer,
    answering,
    authority,
    backend,
    fields_of,
    lines_of,
    on_uvloop,
)


@pytest.fixture
def pki(tmp_path: Path) -> PKI:
    return PKI.make(tmp_path)


def _backend(pki: PKI, port: int = 1) -> Backend:
    return Backend(
        apiservice="v1.g",
        group="g",
        version="v1",
        host="127.0.0.1",
        port=port,
        server_name=SERVER_NAME,
        ca_bundle=pki.ca.pem,
    )


def test_equal_inputs_share_a_context(pki: PKI) -> None:
    tls = UpstreamTLS()
    one = _backend(pki)
    assert tls.context(one) is tls.context(replace(one, apiservice="v2.g", port=2, host="other"))
    assert tls.context(one) is not tls.context(replace(one, ca_bundle=authority().pem))
    assert tls.context(one) is not tls.context(replace(one, ca_bundle=None))


def test_verification_rules(pki: PKI) -> None:
    tls = UpstreamTLS()
    strict = tls.context(_backend(pki))
    assert strict.verify_mode == ssl.CERT_REQUIRED
    assert strict.check_hostname
    assert not strict.verify_flags & ssl.VERIFY_X509_STRICT
    assert strict.minimum_version == ssl.TLSVersion.TLSv1_2
    assert len(strict.get_ca_certs()) == 1
    insecure = tls.context(replace(_backend(pki), ca_bundle=None, insecure=True))
    assert insecure.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    ("bundle", "insecure", "text"),
    [
        (b"text", False, "unable to load root certificates: unable to parse bytes as PEM block"),
        (
            b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
            False,
            "unable to load root certificates: no valid certificate authority data seen",
        ),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            False,
            "unable to load root certificates: failed to parse certificate: ",
        ),
        (b"x", True, "specifying a root certificates file with the insecure flag is not allowed"),
    ],
)
def test_bundles_that_cannot_be_used(pki: PKI, bundle: bytes, insecure: bool, text: str) -> None:
    tls = UpstreamTLS()
    for _ in range(2):
        with pytest.raises(UpstreamTLSError) as caught:
            tls.context(replace(_backend(pki), ca_bundle=bundle, insecure=insecure))
        assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("certificate", "key", "text"),
    [
        ("missing.crt", "client.key", "cannot read .*missing.crt"),
        ("client.crt", "missing.key", "cannot read .*missing.key"),
        ("client.crt", "front.key", "front.key does not belong to .*client.crt"),
        ("client.key", "client.key", "client.key: not a PEM certificate"),
        ("client.crt", "client.crt", "client.crt: not a PEM private key"),
    ],
)
def test_a_bad_pair_is_an_error_at_the_start(pki: PKI, certificate: str, key: str, text: str) -> None:
    with pytest.raises(UpstreamTLSError, match=text) as caught:
        UpstreamTLS(pki.directory / certificate, pki.directory / key)
    assert "PRIVATE KEY" not in str(caught.value)


def test_half_a_pair_is_an_error(pki: PKI) -> None:
    with pytest.raises(UpstreamTLSError, match="missing a client certificate along with a key"):
        UpstreamTLS(pki.directory / "client.crt")


def test_a_new_pair_replaces_the_contexts_once_it_is_consistent(pki: PKI) -> None:
    certificate, key = pki.ca.issue(pki.directory, "pair")
    tls = UpstreamTLS(certificate, key)
    before = tls.context(_backend(pki))
    assert not tls.reload()
    new_certificate, new_key = pki.ca.issue(pki.directory, "successor")
    certificate.write_bytes(new_certificate.read_bytes())
    with pytest.raises(UpstreamTLSError, match="does not belong to"):
        tls.reload()
    assert tls.context(_backend(pki)) is before
    # A context that has to be built meanwhile uses the pair that is consistent.
    tls.context(replace(_backend(pki), ca_bundle=authority().pem))
    key.write_bytes(new_key.read_bytes())
    assert tls.reload()
    assert tls.context(_backend(pki)) is not before
    assert not tls.reload()


def test_files_that_vanish_leave_the_pair_in_place(pki: PKI) -> None:
    certificate, key = pki.ca.issue(pki.directory, "pair")
    tls = UpstreamTLS(certificate, key)
    key.unlink()
    with pytest.raises(UpstreamTLSError, match="cannot read"):
        tls.reload()
    tls.context(_backend(pki))


def test_the_key_is_never_readable_by_others(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    load = ssl.SSLContext.load_cert_chain

    def spy(context: ssl.SSLContext, certfile: str) -> None:
        modes.append(stat.S_IMODE(os.stat(certfile).st_mode))
        load(context, certfile)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    UpstreamTLS(pki.directory / "client.crt", pki.directory / "client.key").context(_backend(pki))
    assert modes == [0o600]


@on_uvloop
async def test_fetch_verifies_the_service_name_and_shows_the_client_certificate(pki: PKI) -> None:
    tls = UpstreamTLS(pki.directory / "client.crt", pki.directory / "client.key")
    seen: list[bytes] = []
    async with backend(answering(answer(b"{}"), seen), pki.server_context("backend")) as served:
        found = await fetch(
            _backend(pki, served.port), tls, "/apis/g/v1", [("X-Remote-User", "a")], timeout=5, max_body=100
        )
        assert (found.status, found.body) == (200, b"{}")
        assert lines_of(seen[0])[0] == "GET /apis/g/v1 HTTP/1.1"
        assert fields_of(seen[0], "x-remote-user") == ["a"]
        assert served.peer_certificates[0] is not None
        with pytest.raises(http1.TLSError):
            await fetch(
                replace(_backend(pki, served.port), server_name="other.default.svc"), tls, "/", timeout=5, max_body=100
            )
