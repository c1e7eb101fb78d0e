"""Two replicas behind one name are replaced under load: no request fails, watches resume, nothing is created twice. The
same while the aggregator replaces its own workers."""

import asyncio
import concurrent.futures
import contextlib
import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.load import Account, Load, client_context
from tests.e2e.stack import EXAMPLE_API, Stack
from tests.support.kubectl import Kubectl
from tests.support.waiting import wait_until

REPLICAS = ("replica-a", "replica-b")
NAME = "example-replicas"
OVERRIDE = "rolling.yml"
PROCESSES = "processes.yml"
PROXIES = 2
RATE = 300.0
WORKERS = 20


def _override(stack: Stack) -> None:
    """Two more example servers, each with a store of its own on this host, under one DNS name."""
    services = {}
    command = yaml.safe_load((stack.directory / "docker-compose.yml").read_text())["services"]["example-service"][
        "command"
    ]
    for replica in REPLICAS:
        store = stack.directory / "data" / replica
        shutil.rmtree(store, ignore_errors=True)
        store.mkdir(parents=True)
        os.chown(store, stack.user, stack.group)
        services[replica] = {
            "extends": {"file": "docker-compose.yml", "service": "example-service"},
            "command": [word for word in command if not word.startswith("--data-dir")] + ["--data-dir=/replica"],
            "volumes": [{"type": "bind", "source": f"./data/{replica}", "target": "/replica"}],
            "networks": {"default": {"aliases": [NAME]}},
            "restart": "no",
            "healthcheck": {"interval": "1s"},
        }
    (stack.directory / OVERRIDE).write_text(yaml.safe_dump({"services": services}))


def _compose(stack: Stack, *arguments: str) -> None:
    stack.run("--file", OVERRIDE, *arguments)


def _all_healthy(stack: Stack, proxies: int) -> bool:
    """Each proxy knows both replicas. More than that while a worker is replaced: its successor counts, too."""
    found = stack.samples("aggregator_proxy_endpoints")
    states = {labels: value for labels, value in found.items() if f'apiservice="{EXAMPLE_API}"' in labels}
    healthy = sum(value for labels, value in states.items() if 'state="healthy"' in labels)
    return healthy >= proxies * len(REPLICAS) and healthy == sum(states.values())


def _point_to(kubectl: Kubectl, host: str) -> None:
    patch = json.dumps({"spec": {"host": host}})
    kubectl.ok("patch", "externalname", EXAMPLE_API, "--namespace=default", "--type=merge", f"--patch={patch}")


@pytest.fixture
def proxies(request: pytest.FixtureRequest, stack: Stack) -> Iterator[int]:
    """The number of processes that proxy, `request.param`; 1 is the stack as it is."""
    number: int = request.param
    if number == 1:
        yield 1
        return
    environment = {"GF_SERVER_WORKERS": str(number)}
    override = {"services": {"aggregator": {"environment": environment}}}
    (stack.directory / PROCESSES).write_text(yaml.safe_dump(override))
    try:
        stack.run("--file", PROCESSES, "up", "--detach", "--wait", "aggregator")
        wait_until(lambda: stack.samples("aggregator_workers_ready").get("") == number, seconds=20)
        yield number
    finally:
        stack.up()
        assert not stack.samples("aggregator_workers_ready")


@pytest.fixture
def replicas(stack: Stack, kubectl: Kubectl, proxies: int) -> Iterator[None]:
    """The example API is served by two replicas, whose stores hold nothing yet."""
    _override(stack)
    try:
        _compose(stack, "up", "--detach", "--wait", *REPLICAS)
        _point_to(kubectl, NAME)
        wait_until(lambda: kubectl("get", "dummy").code == 0 and _all_healthy(stack, proxies), seconds=20)
        yield
    finally:
        _point_to(kubectl, "example-service")
        _compose(stack, "rm", "--stop", "--force", "--volumes", *REPLICAS)
        wait_until(lambda: kubectl("get", "dummy").code == 0, seconds=20)


def _replace(stack: Stack, replica: str, signal: str, proxies: int) -> tuple[float, float]:
    """End a replica and start its successor; two moments between which the signal arrived."""
    before = time.monotonic()
    _compose(stack, "kill", "--signal", signal, replica)
    signalled = before, time.monotonic()
    wait_until(lambda: not stack.inspect_named(OVERRIDE, replica)["State"]["Running"], seconds=25)
    time.sleep(1)
    _compose(stack, "up", "--detach", "--wait", "--force-recreate", "--no-deps", replica)
    wait_until(lambda: _all_healthy(stack, proxies), seconds=20)
    return signalled


def _stored(stack: Stack) -> Counter[str]:
    """How often each token is stored, in both replicas together."""
    found: Counter[str] = Counter()
    for replica in REPLICAS:
        for file in (stack.directory / "data" / replica).rglob("*.json"):
            token = _token(file)
            if token:
                found[token] += 1
    return found


def _token(file: Path) -> str:
    document = json.loads(file.read_text())
    metadata = document.get("metadata", {}) if isinstance(document, dict) else {}
    return str(metadata.get("labels", {}).get("token", ""))


def _assert_stored_once(stack: Stack, account: Account) -> None:
    """What was acknowledged is there, and nothing is there twice."""
    stored = _stored(stack)
    assert [token for token, times in stored.items() if times > 1] == []
    assert account.created <= set(stored)


def _reloads(stack: Stack) -> int:
    """How often all workers have been replaced."""
    return stack.logs("aggregator").count("workers replaced")


def _await_reloads(stack: Stack, wanted: int) -> None:
    wait_until(lambda: _reloads(stack) >= wanted, seconds=90, interval=1)


@contextlib.contextmanager
def _reloading(stack: Stack) -> Iterator[None]:
    """Ask for new workers again and again, each time when the last ones are in their places."""
    done = threading.Event()

    def ask() -> None:
        wanted = _reloads(stack)
        while not done.is_set():
            wanted += 1
            stack.run("kill", "--signal", "SIGHUP", "aggregator")
            _await_reloads(stack, wanted)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield
        finally:
            done.set()
        asking.result()


async def _under_load(stack: Stack, work: Callable[[], None]) -> Account:
    load = Load(stack.api_port, client_context(stack.kubeconfig), rate=RATE, workers=WORKERS, watches=6)
    running = asyncio.create_task(load.run(), name="load")
    await asyncio.sleep(3)
    try:
        await asyncio.to_thread(work)
        await asyncio.sleep(3)
    finally:
        load.stop()
        await running
    return load.account


@pytest.mark.parametrize("proxies", [1], indirect=True, ids=["one process"])
async def test_replicas_are_replaced_under_load(stack: Stack, kubectl: Kubectl, proxies: int, replicas: None) -> None:
    killed: list[tuple[float, float]] = []

    def replace_all() -> None:
        for signal in ("SIGTERM", "SIGKILL"):
            for replica in REPLICAS:
                signalled = _replace(stack, replica, signal, proxies)
                if signal == "SIGKILL":
                    killed.append(signalled)

    began = time.monotonic()
    account = await _under_load(stack, replace_all)
    seconds = time.monotonic() - began

    # What a killed process was working on cannot be known to be undone: such a create is told to have failed, and
    # never sent again. Nothing else may fail.
    ambiguous = [
        failure
        for failure in account.failures
        if failure.what == "create"
        and any(failure.sent < after and before < failure.answered < after + 1 for before, after in killed)
    ]
    unexplained = [failure for failure in account.failures if failure not in ambiguous]
    assert unexplained == [], account.answers
    assert len(ambiguous) <= WORKERS, account.answers
    assert account.answers["read 200"] + account.answers["create 201"] > RATE * seconds / 4
    assert account.slowest < 8

    assert account.watches_ended >= 12, "each watch was ended at least twice"
    assert account.answers["watch 200"] >= account.watches_ended
    assert account.watch_events > 0

    _assert_stored_once(stack, account)
    assert kubectl.available(EXAMPLE_API) == "True"


@pytest.mark.parametrize("proxies", [PROXIES], indirect=True, ids=["workers"])
async def test_replicas_and_workers_are_replaced_under_load(
    stack: Stack, kubectl: Kubectl, proxies: int, replicas: None
) -> None:
    def replace_all() -> None:
        with _reloading(stack):
            for _ in range(2):
                for replica in REPLICAS:
                    _replace(stack, replica, "SIGTERM", proxies)

    began = time.monotonic()
    account = await _under_load(stack, replace_all)
    seconds = time.monotonic() - began

    assert account.failures == [], account.answers
    assert _reloads(stack) >= 2, "too few reloads of the workers while the replicas were replaced"
    assert stack.samples("aggregator_workers_ready") == {"": proxies}
    assert sum(stack.samples("aggregator_process_restarts_total").values()) == 0
    assert account.answers["read 200"] + account.answers["create 201"] > RATE * seconds / 4
    assert account.slowest < 8

    assert account.watches_ended >= 12, "each watch was ended at least twice"
    assert account.answers["watch 200"] >= account.watches_ended
    assert account.watch_events > 0

    _assert_stored_once(stack, account)
    assert kubectl.available(EXAMPLE_API) == "True"
