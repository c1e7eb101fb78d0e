"""TLS sessions towards backends: what is resumed, for how long, and what of it must never be."""

import asyncio
import datetime
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from aggregator.upstream.resumption import Resumption
from aggregator.upstream.tls import UpstreamTLS
from tests.unit.aggregator.proxy_kit import (
    PKI,
    SERVER_NAME,
    Handler,
    answer,
    apiservice,
    authority,
    backend,
    client,
    on_uvloop,
    proxy,
    read_head,
)

SETTLE = 0.15
"""Longer than the proxy waits for the tickets of a new connection."""


@pytest.fixture
def pki(tmp_path: Path) -> PKI:
    return PKI.make(tmp_path)


def _once(resumed: list[bool]) -> Handler:
    """One answer to each connection; whether it was resumed, as the server sees it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        resumed.append(writer.get_extra_info("ssl_object").session_reused)
        await read_head(reader)
        writer.write(answer(b"ok", "Connection: close"))
        await writer.drain()

    return handle


class _Forgetful(ssl.SSLContext):
    """A server that cannot read its own tickets, as several servers behind one address."""

    contexts: Sequence[ssl.SSLContext] = ()
    count = 0

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        self.count += 1
        return self.contexts[self.count % len(self.contexts)].wrap_bio(incoming, outgoing, server_side)


def _server(pki: PKI, kind: str) -> ssl.SSLContext:
    context = pki.server_context("backend")
    if kind == "TLS 1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    elif kind == "no tickets":
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    elif kind == "unreadable tickets":
        forgetful = _Forgetful(ssl.PROTOCOL_TLS_SERVER)
        forgetful.contexts = [pki.server_context("backend") for _ in range(7)]
        return forgetful
    return context


@pytest.mark.parametrize(
    ("kind", "insecure", "expected"),
    [
        pytest.param("TLS 1.3", False, [False, True, True, True, True], id="TLS 1.3"),
        pytest.param("TLS 1.3", True, [False, True, True, True, True], id="not verified"),
        pytest.param("TLS 1.2", False, [False, True, True, True, True], id="TLS 1.2"),
        pytest.param("no tickets", False, [False] * 5, id="no tickets"),
        pytest.param("unreadable tickets", False, [False] * 5, id="unreadable tickets"),
    ],
)
@on_uvloop
async def test_later_connections_resume_where_the_server_does(
    pki: PKI, kind: str, insecure: bool, expected: list[bool]
) -> None:
    resumed: list[bool] = []
    async with (
        backend(_once(resumed), _server(pki, kind)) as behind,
        proxy(pki, [apiservice(behind.port, None if insecure else pki.ca.pem, insecure=insecure)]) as front,
        client(pki, front) as caller,
    ):
        for _ in range(5):
            assert (await caller.get()).status == 200
            await asyncio.sleep(SETTLE)
    assert resumed == expected


def _has_ticket(hello: bytes) -> bool:
    """Whether a ClientHello offers a session: its last extension is `pre_shared_key` (RFC 8446 4.2.11)."""
    position = 5 + 4 + 2 + 32
    position += 1 + hello[position]
    position += 2 + int.from_bytes(hello[position : position + 2])
    position += 1 + hello[position]
    position += 2
    kind = -1
    while position < len(hello):
        kind = int.from_bytes(hello[position : position + 2])
        position += 4 + int.from_bytes(hello[position + 2 : position + 4])
    return kind == 41


@pytest.mark.parametrize("alert", [b"", b"\x15\x03\x03\x00\x02\x02\x28"], ids=["closes", "alert"])
@on_uvloop
async def test_a_server_that_breaks_off_because_of_a_ticket_gets_none(pki: PKI, alert: bytes) -> None:
    offers: list[bool] = []
    resumed: list[bool] = []

    async def before(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await reader.read(65536)
        offers.append(_has_ticket(hello))
        if offers[-1]:
            writer.write(alert)
            await writer.drain()
            return
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", behind.port)
        to_writer.write(hello)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))

    async with (
        backend(_once(resumed), pki.server_context("backend")) as behind,
        backend(before) as entrance,
        proxy(pki, [apiservice(entrance.port, pki.ca.pem)]) as front,
        client(pki, front) as caller,
    ):
        for _ in range(4):
            assert (await caller.get()).status == 200
            await asyncio.sleep(SETTLE)
    assert offers == [False, True, False, False, False]
    assert resumed == [False] * 4


@on_uvloop
async def test_an_unverified_session_verifies_nobody(pki: PKI) -> None:
    resumed: list[bool] = []
    async with backend(_once(resumed), pki.server_context("backend")) as behind:
        services = [
            apiservice(behind.port, None, name="v1.loose", insecure=True),
            apiservice(behind.port, authority("another").pem, name="v1.strict"),
        ]
        async with proxy(pki, services) as front, client(pki, front) as caller:
            for _ in range(2):
                assert (await caller.get("/apis/loose/v1/things")).status == 200
                await asyncio.sleep(SETTLE)
            refused = await caller.get("/apis/strict/v1/things")
            assert refused.status == 503
            assert b"tls: failed to verify certificate" in refused.body
    assert resumed == [False, True]


@on_uvloop
async def test_a_new_client_certificate_is_shown_at_once(pki: PKI) -> None:
    certificate, key = pki.ca.issue(pki.directory, "pair")
    tls = UpstreamTLS(certificate, key)
    resumed: list[bool] = []
    async with (
        backend(_once(resumed), pki.server_context("backend")) as behind,
        proxy(pki, [apiservice(behind.port, pki.ca.pem)], upstream_tls=tls) as front,
        client(pki, front) as caller,
    ):
        for _ in range(2):
            await caller.get()
            await asyncio.sleep(SETTLE)
        for old, new in zip((certificate, key), pki.ca.issue(pki.directory, "successor"), strict=True):
            old.write_bytes(new.read_bytes())
        assert tls.reload()
        front.plane.certificates_changed()
        await caller.get()
        names = [_common_name(seen) for seen in behind.peer_certificates]
    assert list(zip(resumed, names, strict=True)) == [(False, "pair"), (True, "pair"), (False, "successor")]


def _common_name(certificate: bytes | None) -> str:
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate).subject.rfc4514_string().removeprefix("CN=")


async def _connect(port: int, resumption: Resumption) -> bool:
    """Whether a connection made now is resumed."""
    handshake = resumption.attempt()
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=cast(ssl.SSLContext, handshake), server_hostname=SERVER_NAME
    )
    handshake.succeeded()
    reused: bool = writer.get_extra_info("ssl_object").session_reused
    await asyncio.sleep(0.05)
    writer.transport.abort()
    return reused


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize("looped", ["uvloop", "asyncio"])
def test_a_session_ages_from_the_full_handshake_on(pki: PKI, looped: str) -> None:
    async def run() -> None:
        resumption = Resumption(pki.client_context(), most_seconds=0.4, settle_seconds=0.03)
        async with backend(_silent, pki.server_context("backend")) as behind:
            assert not await _connect(behind.port, resumption)
            began = time.monotonic()
            while await _connect(behind.port, resumption):
                assert time.monotonic() - began < 0.5
            assert time.monotonic() - began > 0.2
            assert await _connect(behind.port, resumption)

    if looped == "asyncio":
        asyncio.run(run())
    else:
        on_uvloop(run)()


def _issue_short(pki: PKI, seconds: float) -> None:
    """Another certificate for the backend's key, valid for so long."""
    directory = pki.directory
    old = x509.load_pem_x509_certificate((directory / "backend.crt").read_bytes())
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(old.subject).issuer_name(old.issuer).public_key(old.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(seconds=seconds))
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    certificate = builder.sign(pki.ca.key, hashes.SHA256())
    (directory / "backend.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@on_uvloop
async def test_an_expired_certificate_is_noticed_when_it_expires(pki: PKI) -> None:
    _issue_short(pki, 2)
    resumption = Resumption(pki.client_context(), settle_seconds=0.03)
    async with backend(_silent, pki.server_context("backend")) as behind:
        assert [await _connect(behind.port, resumption) for _ in range(3)] == [False, True, True]
        await asyncio.sleep(2)
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
            await _connect(behind.port, resumption)


@on_uvloop
async def test_a_server_that_takes_no_tickets_is_left_alone_with_them(pki: PKI) -> None:
    resumption = Resumption(pki.client_context(), most_seconds=0.8, settle_seconds=0.03)
    forgetful = _server(pki, "unreadable tickets")
    offers: list[bool] = []
    async with backend(_silent, forgetful) as behind:
        for _ in range(9):
            offers.append(resumption.offer() is not None)
            assert not await _connect(behind.port, resumption)
    assert offers == [False, True, True, True, False, False, False, False, False]
