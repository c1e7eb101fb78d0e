"""Where ExternalNames must not lead, from the table of addresses to refused requests, probes and fetches."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from aggregator.api import externalname, probe
from aggregator.api.prober import ProbeLimits, Prober
from aggregator.proxy import resolver
from aggregator.settings import model
from aggregator.upstream.backend import Backend
from aggregator.upstream.egress import UNRESTRICTED, Egress, EgressRefused
from aggregator.upstream.kept import KeptConnections
from aggregator.upstream.tls import UpstreamTLS
from apiserver import http1
from tests.unit.aggregator.api_kit import fetch_with
from tests.unit.aggregator.proxy_kit import PKI, answer, answering, apiservice, backend, client, on_uvloop, proxy

ENFORCED = Egress()
LOOPBACK_ALLOWED = Egress.allowing(["127.0.0.0/8", "::1"])


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.8.9.1", "loopback"),
        ("::1", "loopback"),
        ("0:0:0:0:0:0:0:1", "loopback"),
        ("169.254.169.254", "instance metadata"),
        ("169.254.170.2", "instance metadata"),
        ("100.100.100.200", "instance metadata"),
        ("168.63.129.16", "instance metadata"),
        ("fd00:ec2::254", "instance metadata"),
        ("169.254.0.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("febf::1", "link-local"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:a9fe:a9fe", "instance metadata"),
        ("::127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b::169.254.169.254", "instance metadata"),
        ("64:ff9b:1::10.0.0.1", ""),
        ("64:ff9b:1:ffff::127.0.0.1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("2001:0:7f00:1::1", "loopback"),
        ("10.0.0.1", ""),
        ("172.16.9.9", ""),
        ("192.168.1.1", ""),
        ("100.64.0.1", ""),
        ("fd12::1", ""),
        ("fec0::1", ""),
        ("93.184.216.34", ""),
        ("2606:2800::1", ""),
        ("::ffff:10.0.0.1", ""),
        ("169.253.255.255", ""),
        ("host.example", ""),
    ],
)
def test_addresses(address: str, kind: str) -> None:
    refusal = ENFORCED.refusal(address)
    assert f"{kind} addresses are not allowed" in refusal if kind else refusal == ""
    assert UNRESTRICTED.refusal(address) == ""


@pytest.mark.parametrize(
    ("allowed", "host", "addresses", "expected"),
    [
        pytest.param([], "a.example", ["10.0.0.1"], ["10.0.0.1"], id="private"),
        pytest.param([], "a.example", ["127.0.0.1", "10.0.0.1"], ["10.0.0.1"], id="what is forbidden is left out"),
        pytest.param([], "a.example", ["127.0.0.1", "::1"], None, id="nothing is left"),
        pytest.param([], "a.example", [], [], id="no address"),
        pytest.param(["127.0.0.1"], "a.example", ["127.0.0.1"], ["127.0.0.1"], id="address allowed"),
        pytest.param(["127.0.0.0/8"], "a.example", ["::ffff:127.0.0.9"], ["::ffff:127.0.0.9"], id="mapped, allowed"),
        pytest.param(["::ffff:0:0/96"], "a.example", ["::ffff:127.0.0.9"], ["::ffff:127.0.0.9"], id="mapping allowed"),
        pytest.param(["127.0.0.0/8"], "a.example", ["169.254.1.1"], None, id="another network allowed"),
        pytest.param(["A.Example"], "a.example.", ["127.0.0.1"], ["127.0.0.1"], id="host allowed"),
        pytest.param(["a.example"], "b.a.example", ["127.0.0.1"], None, id="another host allowed"),
    ],
)
def test_what_is_permitted(allowed: list[str], host: str, addresses: list[str], expected: list[str] | None) -> None:
    egress = Egress.allowing(allowed)
    if expected is None:
        with pytest.raises(EgressRefused, match="forbidden by the egress policy"):
            egress.permitted(host, addresses)
    else:
        assert egress.permitted(host, addresses) == expected


@pytest.mark.parametrize(
    ("mode", "development", "enforced"),
    [("auto", False, True), ("auto", True, False), ("true", True, True), ("false", False, False)],
)
def test_mode(mode: str, development: bool, enforced: bool) -> None:
    settings = model.EgressSettings(forbid_special_addresses=mode, allow=("10.0.0.0/8",))
    assert settings.policy(development=development).enforced is enforced


def external(*hosts: str) -> dict[str, Any]:
    first, *more = hosts
    return {"metadata": {"name": "svc", "namespace": "default"}, "spec": {"host": first, "hosts": more}}


@pytest.mark.parametrize(
    ("hosts", "egress", "status"),
    [
        pytest.param(("127.0.0.1",), ENFORCED, 503, id="literal"),
        pytest.param(("::ffff:127.0.0.1",), ENFORCED, 503, id="mapped literal"),
        pytest.param(("localhost",), ENFORCED, 503, id="name"),
        pytest.param(("127.1",), ENFORCED, 503, id="number that only the resolver understands"),
        pytest.param(("2130706433",), ENFORCED, 503, id="decimal number"),
        pytest.param(("127.0.0.1", "localhost"), ENFORCED, 503, id="several"),
        pytest.param(("127.0.0.1",), LOOPBACK_ALLOWED, 200, id="literal allowed"),
        pytest.param(("localhost",), LOOPBACK_ALLOWED, 200, id="name with an allowed address"),
        pytest.param(("localhost",), Egress.allowing(["localhost"]), 200, id="name allowed"),
        pytest.param(("127.0.0.1",), Egress.allowing(["localhost"]), 503, id="only the name allowed"),
        pytest.param(("localhost",), UNRESTRICTED, 200, id="off"),
    ],
)
@on_uvloop
async def test_requests(pki: PKI, hosts: tuple[str, ...], egress: Egress, status: int) -> None:
    seen: list[bytes] = []
    async with (
        backend(answering(answer(), seen), pki.server_context("backend")) as served,
        proxy(
            pki,
            [apiservice(served.port, pki.ca.pem)],
            upstream_tls=UpstreamTLS(egress=egress),
            externalnames=[external(*hosts)],
        ) as front,
        client(pki, front) as caller,
    ):
        found = await caller.get()
        assert (found.status, len(seen)) == (status, int(status == 200))
        if status == 503:
            assert b"forbidden by the egress policy: loopback addresses are not allowed" in found.body


@on_uvloop
async def test_a_name_that_is_bound_anew_is_looked_at_again(pki: PKI, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was looked at is the one that is dialled; the next lookup is looked at again."""
    answers = ["127.0.0.1", "127.0.0.2"]

    async def lookup(host: str, port: int) -> list[tuple[str, int]]:
        return [(answers[0], port)]

    monkeypatch.setattr(resolver, "_lookup", lookup)
    egress = Egress.allowing(["127.0.0.1"])
    assert await resolver.resolve([("a.example", 1)], egress) == [("127.0.0.1", 1)]
    del answers[0]
    with pytest.raises(EgressRefused):
        await resolver.resolve([("a.example", 1)], egress)


def remote(host: str, port: int, pki: PKI) -> Backend:
    return Backend(
        apiservice="v1.test",
        group="test",
        version="v1",
        host=host,
        port=port,
        server_name="svc.default.svc",
        ca_bundle=pki.ca.pem,
    )


Ask = Callable[[Backend, UpstreamTLS], Any]


async def _by_fetch(backend: Backend, tls: UpstreamTLS) -> Any:
    return await fetch_with(tls)(backend, "/", headers=(), timeout=5, max_body=100)


async def _by_kept_connection(backend: Backend, tls: UpstreamTLS) -> Any:
    kept = KeptConnections(tls)
    try:
        return await kept(backend, "/", headers=(), timeout=5, max_body=100)
    finally:
        kept.close()


async def _by_probe(backend: Backend, tls: UpstreamTLS) -> Any:
    kept = KeptConnections(tls)
    try:
        return await kept.status(backend, "/", headers=(), timeout=5)
    finally:
        kept.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("ask", [_by_fetch, _by_kept_connection, _by_probe], ids=["fetch", "kept", "probe"])
async def test_discovery_openapi_and_probes(pki: PKI, ask: Ask, host: str) -> None:
    seen: list[bytes] = []
    async with backend(answering(answer(), seen), pki.server_context("backend")) as served:
        where = remote(host, served.port, pki)
        with pytest.raises(http1.ConnectError, match="forbidden by the egress policy: loopback"):
            await ask(where, UpstreamTLS(egress=ENFORCED))
        assert seen == []
        await ask(where, UpstreamTLS(egress=LOOPBACK_ALLOWED))
        assert len(seen) == 1


async def test_the_condition_names_the_policy(pki: PKI) -> None:
    prober = Prober(KeptConnections(UpstreamTLS(egress=ENFORCED)).status, ProbeLimits(head_start=0.05))
    verdict = probe.verdict(await prober.check(remote("169.254.169.254", 443, pki)))
    assert (verdict.status, verdict.reason) == ("False", "FailedDiscoveryCheck")
    assert "forbidden by the egress policy: instance metadata addresses are not allowed" in verdict.message


@pytest.mark.parametrize(
    ("hosts", "warned"),
    [
        (("10.0.0.1",), 0),
        (("localhost",), 0),
        (("127.0.0.1",), 1),
        (("10.0.0.1", "169.254.169.254:80", "[::1]:443"), 2),
    ],
)
def test_whoever_writes_a_forbidden_address_is_warned(hosts: tuple[str, ...], warned: int) -> None:
    warnings = externalname.ExternalNameStrategy(ENFORCED).warnings(external(*hosts))
    assert len(warnings) == warned
    assert all("forbidden by the egress policy" in text for text in warnings)
    assert externalname.ExternalNameStrategy(UNRESTRICTED).warnings(external(*hosts)) == []


def test_loopback_resolves_here() -> None:
    """What the tests above stand on."""
    assert {info[4][0] for info in socket.getaddrinfo("localhost", 1)} <= {"127.0.0.1", "::1"}
