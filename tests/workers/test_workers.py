"""Workers that crash, are replaced and end, seen from outside."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.callers import Connection, Kubeconfig
from tests.support.waiting import wait_until
from tests.workers.program import LOCAL, REMOTE, WORKERS, Program, alive, more

REQUESTS = "aggregator_proxy_requests_total"


def sockets_of(pid: int) -> int:
    links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
    return sum(link.startswith("socket:") for link in links)


async def until_gone(*pids: int) -> None:
    await asyncio.to_thread(wait_until, lambda: not any(map(alive, pids)), seconds=10)


async def test_connections_are_spread_and_counted_together(program: Program) -> None:
    context = Kubeconfig(program.kubeconfig)().context
    assert program.request("GET", REMOTE).code == 200
    before = {name: sockets_of(program.processes()[name]) for name in WORKERS}
    counted = program.metric(REQUESTS, 'apiservice="v0alpha1.example.grafana.app"')
    opened = [await Connection.open(program.port, context) for _ in range(40)]
    try:
        answers = [await connection.ask(REMOTE) for connection in opened]
        assert {answer.status for answer in answers} == {200}
        grown = {name: sockets_of(program.processes()[name]) - before[name] for name in WORKERS}
    finally:
        for connection in opened:
            connection.close()
    # Of 40 the kernel gives each less than 8 once in 25,000 times.
    assert min(grown.values()) >= 8
    assert program.metric(REQUESTS, 'apiservice="v0alpha1.example.grafana.app"') - counted == 40
    assert program.metric("aggregator_workers_ready") == 2
    # The API port tells the same as the plain one.
    assert REQUESTS in program.request("GET", "/metrics").body.decode()


async def test_a_killed_worker_is_replaced_and_nothing_counted_is_lost(program: Program) -> None:
    async with program.load() as callers:
        counts = [program.metric(REQUESTS)]
        killed = program.kill("worker-0")
        await more(callers, 10)
        while program.processes().get("worker-0", killed) == killed or program.metric("aggregator_workers_ready") < 2:
            counts.append(await asyncio.to_thread(program.metric, REQUESTS))
        await more(callers, 50)
        counts.append(program.metric(REQUESTS))
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
    assert program.metric("aggregator_process_restarts_total", 'process="worker-0"') == 1
    # Connections of the killed worker are broken; whoever connects anew is served.
    assert len(callers.failures) <= 4, callers.failures


async def test_connections_to_a_place_without_worker_are_served_by_another(program: Program) -> None:
    for _ in range(5):
        killed = await asyncio.to_thread(wait_until, lambda: program.processes().get("worker-0", 0), seconds=20)
        os.kill(killed, signal.SIGKILL)
        await until_gone(killed)
    assert "worker-0" not in program.processes()
    answers = [await asyncio.to_thread(program.request, "GET", REMOTE) for _ in range(12)]
    assert "worker-0" not in program.processes(), "too slow to prove anything"
    assert {answer.code for answer in answers} == {200}
    assert program.plain("/readyz")[0] == 200
    await asyncio.to_thread(wait_until, lambda: program.metric("aggregator_workers_ready") == 2, seconds=20)
    answers = [await asyncio.to_thread(program.request, "GET", REMOTE) for _ in range(12)]
    assert {answer.code for answer in answers} == {200}


async def test_remote_apis_are_served_while_the_api_server_restarts(program: Program) -> None:
    async with program.load() as callers:
        killed = program.kill("api")
        await until_gone(killed)
        readiness, liveness = program.plain("/readyz"), program.plain("/livez")
        local = await asyncio.to_thread(program.request, "GET", LOCAL)
        await more(callers, 100)
        await program.until_ready()
        await more(callers, 50)
    assert callers.failures == []
    assert (readiness[0], liveness[0], local.code) == (500, 200, 503)
    assert "[-]api-server failed" in readiness[1] or "the API server is not running" in readiness[1]
    assert program.request("GET", LOCAL).code == 200
    assert program.metric("aggregator_process_restarts_total", 'process="api"') == 1
    assert program.plain("/readyz/remote-autoregister-completion")[0] == 200


async def test_a_reload_under_load_fails_no_request(program: Program) -> None:
    before = program.processes()
    async with program.load() as remote, program.load(LOCAL) as local:
        os.kill(program.pid("aggregator"), signal.SIGHUP)
        await asyncio.to_thread(wait_until, lambda: "workers replaced" in program.log(), seconds=60)
        await more(remote, 50)
        await more(local, 50)
    assert (remote.failures, local.failures) == ([], [])
    after = program.processes()
    assert all(before[name] != after[name] for name in WORKERS)
    assert before["api"] == after["api"]
    assert program.metric("aggregator_process_restarts_total") == 0


async def test_a_reload_with_wrong_settings_changes_nothing(program: Program) -> None:
    before = program.processes()
    right = program.settings.read_text()
    program.settings.write_text(f"{right}\n[server]\nalpn = h3\n")
    os.kill(program.pid("aggregator"), signal.SIGHUP)
    await asyncio.to_thread(wait_until, lambda: "wrong settings, nothing is reloaded" in program.log(), seconds=10)
    assert "'h3' is not one of http/1.1, h2" in program.log()
    assert program.processes() == before
    program.settings.write_text(right)


@pytest.mark.parametrize("program", ["shutdown_delay_seconds = 2"], indirect=True)
async def test_the_end_is_announced_and_orderly(program: Program) -> None:
    context = Kubeconfig(program.kubeconfig)().context
    processes = program.processes()
    kept = [await Connection.open(program.port, context) for _ in range(6)]
    assert not any([connection.leaving for connection in kept if await connection.ask(REMOTE)])
    os.kill(program.pid("aggregator"), signal.SIGTERM)
    await asyncio.to_thread(wait_until, lambda: program.plain("/readyz")[0] == 500, seconds=5)
    for connection in kept:
        assert (await connection.ask(REMOTE)).status == 200
        assert connection.leaving
    assert program.request("GET", "/readyz").code == 500
    assert await asyncio.to_thread(program.process("aggregator").wait, 20) == 0
    for connection in kept:
        connection.close()
    assert not any(alive(pid) for pid in processes.values())
    assert program.log().rstrip().endswith('msg="stopped"')
    assert not [line for line in program.log().splitlines() if "level=error" in line]


@pytest.mark.parametrize("program", ["shutdown_delay_seconds = 60"], indirect=True)
async def test_a_second_signal_ends_everything_at_once(program: Program) -> None:
    processes = program.processes()
    started = time.monotonic()
    os.kill(program.pid("aggregator"), signal.SIGTERM)
    await asyncio.to_thread(
        wait_until, lambda: "msg=stopping" in program.log() or '"stopping"' in program.log(), seconds=5
    )
    os.kill(program.pid("aggregator"), signal.SIGINT)
    assert await asyncio.to_thread(program.process("aggregator").wait, 10) == 1
    await until_gone(*processes.values())
    assert time.monotonic() - started < 30


async def test_processes_do_not_outlive_the_supervisor(program: Program) -> None:
    processes = program.processes()
    os.kill(program.pid("aggregator"), signal.SIGKILL)
    await until_gone(*processes.values())
    await asyncio.to_thread(program.process("aggregator").wait, 10)
    # Port and data directory are free again.
    await asyncio.to_thread(program.start_aggregator)
    assert program.request("GET", REMOTE).code == 200


def serve(directory: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """A start that is expected to fail."""
    environment = {
        "GF_PATHS_DATA": str(directory / "data"),
        "GF_SERVER_METRICS_PORT": "0",
        "GF_SERVER_SECURE_PORT": "0",
        "GF_SERVER_WORKERS": "2",
    }
    command = [str(Path(sys.executable).parent / "aggregator"), "serve"]
    return subprocess.run(
        command, env=os.environ | environment | settings, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_port_in_use_is_said_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(tmp_path, GF_SERVER_SECURE_PORT=str(port))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"aggregator: cannot listen on 127.0.0.1:{port}: address already in use"


def test_what_keeps_the_api_server_from_starting_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a directory")
    done = serve(tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("aggregator: ")
    assert str(tmp_path / "data") in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("text", ["many", "-1", "257", "1.5"])
def test_a_wrong_number_of_workers(tmp_path: Path, text: str) -> None:
    done = serve(tmp_path, GF_SERVER_WORKERS=text)
    assert done.returncode == 2
    assert done.stderr == (
        f"aggregator: GF_SERVER_WORKERS: [server] workers: {text!r} is neither auto nor a number from 0 to 256\n"
    )


POLICY = """\
roles:
- {name: reader, rules: [{apiGroups: [apiregistration.k8s.io], resources: [apiservices], verbs: [list]}]}
bindings:
- {role: reader, users: [ann]}
"""


@pytest.mark.parametrize(
    "program", ["\n[authorization]\npolicy_file = policy.yaml"], indirect=True, ids=["policy file"]
)
def test_a_changed_policy_counts_in_every_process(program: Program) -> None:
    """Reviews are answered by the API server, requests are decided about by the workers."""
    attributes = {"verb": "list", "group": "apiregistration.k8s.io", "resource": "apiservices"}
    review = {"spec": {"user": "ann", "resourceAttributes": attributes}}

    def allowed() -> bool:
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        answer = program.request("POST", path, json.dumps(review).encode(), {"Content-Type": "application/json"})
        assert answer.code == 201
        return bool(answer.document["status"]["allowed"])

    def code() -> int:
        return program.request("GET", LOCAL, headers={"Impersonate-User": "ann"}).code

    assert (allowed(), code()) == (False, 403)
    program.policy.write_text(POLICY)
    wait_until(lambda: allowed() and code() == 200, seconds=10)
    program.policy.write_text("roles: []\n")
    wait_until(lambda: not allowed() and code() == 403, seconds=10)
