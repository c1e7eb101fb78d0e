"""Two replicas behind one name are replaced under load: no request fails, watches resume, nothing is created twice."""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.kubectl import Kubectl
from tests.e2e.load import Account, Load, client_context
from tests.e2e.stack import EXAMPLE_API, Stack, wait_until

REPLICAS = ("replica-a", "replica-b")
NAME = "example-replicas"
OVERRIDE = "rolling.yml"
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


def _healthy(stack: Stack) -> float:
    labels = f'apiservice="{EXAMPLE_API}",state="healthy"'
    return stack.samples("aggregator_proxy_endpoints").get(labels, 0)


def _point_to(kubectl: Kubectl, host: str) -> None:
    patch = json.dumps({"spec": {"host": host}})
    kubectl.ok("patch", "externalname", EXAMPLE_API, "--namespace=default", "--type=merge", f"--patch={patch}")


@pytest.fixture
def replicas(stack: Stack, kubectl: Kubectl) -> Iterator[None]:
    """The example API is served by two replicas."""
    _override(stack)
    try:
        _compose(stack, "up", "--detach", "--wait", *REPLICAS)
        _point_to(kubectl, NAME)
        wait_until(lambda: kubectl("get", "dummy").code == 0 and _healthy(stack) == 2, seconds=20)
        yield
    finally:
        _point_to(kubectl, "example-service")
        _compose(stack, "rm", "--stop", "--force", "--volumes", *REPLICAS)
        wait_until(lambda: kubectl("get", "dummy").code == 0, seconds=20)


def _replace(stack: Stack, replica: str, signal: str) -> tuple[float, float]:
    """End a replica and start its successor; two moments between which the signal arrived."""
    before = time.monotonic()
    _compose(stack, "kill", "--signal", signal, replica)
    signalled = before, time.monotonic()
    wait_until(lambda: not stack.inspect_named(OVERRIDE, replica)["State"]["Running"], seconds=25)
    time.sleep(1)
    _compose(stack, "up", "--detach", "--wait", "--force-recreate", "--no-deps", replica)
    wait_until(lambda: _healthy(stack) == 2, seconds=20)
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


async def test_replicas_are_replaced_under_load(stack: Stack, kubectl: Kubectl, replicas: None) -> None:
    killed: list[tuple[float, float]] = []

    def replace_all() -> None:
        for signal in ("SIGTERM", "SIGKILL"):
            for replica in REPLICAS:
                signalled = _replace(stack, replica, signal)
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

    stored = _stored(stack)
    assert [token for token, times in stored.items() if times > 1] == []
    assert account.created <= set(stored)
    assert kubectl.available(EXAMPLE_API) == "True"
