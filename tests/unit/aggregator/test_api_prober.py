"""Checks of aggregated servers over real TLS connections."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aggregator.api import probe
from aggregator.api.prober import ProbeLimits, Prober
from aggregator.upstream.backend import Backend
from aggregator.upstream.kept import KeptConnections
from aggregator.upstream.tls import UpstreamTLS
from tests.unit.aggregator.api_kit import (
    ENDLESS,
    GARBAGE,
    HANG,
    Certificates,
    Reply,
    Request,
    make_certificates,
    serving,
)

QUICK = ProbeLimits(timeout=0.4, grace=0.2, head_start=0.05)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), "svc.default.svc")


def backend(port: int, certificates: Certificates, *, name: str = "svc.default.svc", insecure: bool = False) -> Backend:
    return Backend(
        apiservice="v1.example.com",
        group="example.com",
        version="v1",
        host="127.0.0.1",
        port=port,
        server_name=name,
        ca_bundle=None if insecure else certificates.ca,
        insecure=insecure,
    )


def prober(limits: ProbeLimits = QUICK) -> Prober:
    connections = KeptConnections(UpstreamTLS())
    _OPEN.append(connections)
    return Prober(connections.status, limits)


_OPEN: list[KeptConnections] = []


@pytest.fixture(autouse=True)
async def _nothing_stays_open() -> AsyncIterator[None]:
    yield
    while _OPEN:
        _OPEN.pop().close()


async def test_one_good_answer_is_enough_and_names_who_asks(certificates: Certificates) -> None:
    async with serving(lambda request: Reply(200), certificates) as server:
        attempts = await prober(ProbeLimits()).check(backend(server.port, certificates))
    assert probe.verdict(attempts) == probe.PASSED
    assert [request.path for request in server.requests] == ["/apis/example.com/v1"]
    headers = server.requests[0].headers
    assert headers["x-remote-user"] == "system:kube-aggregator"
    assert headers["x-remote-group"] == "system:masters"
    assert not {"x-remote-uid", "accept"} & headers.keys()


@pytest.mark.parametrize(
    ("reply", "detail"),
    [
        pytest.param(Reply(403), "bad status from {url}: 403", id="403"),
        pytest.param(Reply(302, b"", {"location": "/elsewhere"}), "bad status from {url}: 302", id="redirect"),
        pytest.param(Reply(304), "bad status from {url}: 304", id="304"),
        pytest.param(Reply(500), "bad status from {url}: 500", id="500"),
        pytest.param(HANG, 'Get "{url}": no answer within 0.4 s', id="hangs"),
    ],
)
async def test_a_failing_server_is_asked_five_times(reply: Reply, detail: str, certificates: Certificates) -> None:
    async with serving(lambda request: reply, certificates) as server:
        attempts = await prober().check(backend(server.port, certificates))
        url = f"https://127.0.0.1:{server.port}/apis/example.com/v1"
    assert len(attempts) == 5
    assert [request.path for request in server.requests] == ["/apis/example.com/v1"] * 5
    text = f"failing or missing response from {url}: {detail.format(url=url)}"
    assert probe.verdict(attempts) == probe.check_failed(text)


async def test_garbage_is_a_failure(certificates: Certificates) -> None:
    async with serving(lambda request: GARBAGE, certificates) as server:
        verdict = probe.verdict(await prober().check(backend(server.port, certificates)))
    assert verdict.reason == "FailedDiscoveryCheck"


async def test_an_endless_body_is_not_read(certificates: Certificates) -> None:
    started = time.monotonic()
    async with serving(lambda request: ENDLESS, certificates) as server:
        attempts = await prober(ProbeLimits()).check(backend(server.port, certificates))
    assert probe.verdict(attempts) == probe.PASSED
    assert time.monotonic() - started < 3


async def test_a_hanging_first_attempt_does_not_hide_a_good_one(certificates: Certificates) -> None:
    seen = []

    def handler(request: Request) -> Reply:
        seen.append(request)
        return HANG if len(seen) == 1 else Reply(200)

    async with serving(handler, certificates) as server:
        attempts = await prober().check(backend(server.port, certificates))
    assert probe.verdict(attempts) == probe.PASSED


async def test_refused_connections_are_a_failure_at_once(certificates: Certificates) -> None:
    async with serving(lambda request: Reply(200), certificates) as server:
        port = server.port
    started = time.monotonic()
    verdict = probe.verdict(await prober(ProbeLimits()).check(backend(port, certificates)))
    assert time.monotonic() - started < 1
    assert verdict.reason == "FailedDiscoveryCheck"
    assert f"https://127.0.0.1:{port}/apis/example.com/v1" in verdict.message
    assert "refused" in verdict.message


async def test_a_name_that_the_certificate_does_not_have_is_refused(certificates: Certificates) -> None:
    async with serving(lambda request: Reply(200), certificates) as server:
        wrong = backend(server.port, certificates, name="other.default.svc")
        verdict = probe.verdict(await prober().check(wrong))
        assert server.requests == []
    assert verdict.reason == "FailedDiscoveryCheck"
    assert "certificate" in verdict.message.lower()


async def test_a_foreign_authority_is_refused(certificates: Certificates, tmp_path: Path) -> None:
    foreign = make_certificates(tmp_path, "svc.default.svc")
    async with serving(lambda request: Reply(200), certificates) as server:
        verdict = probe.verdict(await prober().check(backend(server.port, foreign)))
        assert server.requests == []
    assert verdict.reason == "FailedDiscoveryCheck"


async def test_insecure_skips_verification(certificates: Certificates) -> None:
    async with serving(lambda request: Reply(200), certificates) as server:
        open_door = backend(server.port, certificates, name="other.default.svc", insecure=True)
        assert probe.verdict(await prober().check(open_door)) == probe.PASSED


async def test_a_bundle_that_is_no_pem_is_a_failure_with_its_reason(certificates: Certificates) -> None:
    broken = backend(1, Certificates(b"nonsense", certificates.server_file))
    verdict = probe.verdict(await prober().check(broken))
    assert "unable to load root certificates" in verdict.message


async def test_the_grace_ends_an_attempt_that_outlives_its_own_timeout() -> None:
    async def stuck(*args: object, **options: object) -> int:
        await asyncio.sleep(3600)
        return 200

    attempts = await Prober(stuck, ProbeLimits(timeout=0.05, grace=0.05, head_start=0.01)).check(
        Backend(apiservice="v1.g", group="g", version="v1", host="h", port=1, server_name="s")
    )
    assert probe.verdict(attempts) == probe.check_failed("timed out waiting for https://h:1/apis/g/v1")


async def test_nothing_is_left_running_after_a_check(certificates: Certificates) -> None:
    before = asyncio.all_tasks()
    async with serving(lambda request: HANG, certificates) as server:
        await prober().check(backend(server.port, certificates))
        left = {task.get_name() for task in asyncio.all_tasks() - before}
        assert not any(name.startswith("probe") for name in left)
