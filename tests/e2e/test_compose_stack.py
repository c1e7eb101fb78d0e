"""Flow A: what `docker compose up --wait` promises, and how the containers run."""

import json
import stat
from typing import Any

import pytest

from tests.e2e.stack import EXAMPLE_API, IMAGE, Stack, run_tool
from tests.support.kubectl import Kubectl

SERVERS = ["aggregator", "example-service"]


def test_after_up_the_aggregator_is_ready_and_the_example_api_available(stack: Stack, fresh_kubectl: Kubectl) -> None:
    assert stack.plain("/readyz").text == "ok"
    assert fresh_kubectl.available(EXAMPLE_API) == "True"


def test_one_shot_service_has_ended_well(stack: Stack) -> None:
    state = stack.inspect("pki")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)


def test_up_again_changes_nothing(stack: Stack) -> None:
    before = {name: stack.inspect(name)["Id"] for name in SERVERS}
    authority = stack.pki_file("ca.crt")
    stack.up()
    assert {name: stack.inspect(name)["Id"] for name in SERVERS} == before
    assert stack.pki_file("ca.crt") == authority


@pytest.mark.parametrize("service", SERVERS)
def test_server_has_no_rights_that_it_does_not_need(stack: Stack, service: str) -> None:
    host = stack.inspect(service)["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert not host["Privileged"]


@pytest.mark.parametrize("service", SERVERS)
def test_server_is_process_one_itself_and_not_root(stack: Stack, service: str) -> None:
    script = (
        "import json, os; print(json.dumps({"
        "'uid': os.stat('/proc/1').st_uid, 'gid': os.stat('/proc/1').st_gid,"
        "'argv': open('/proc/1/cmdline').read().split(chr(0)),"
        "'capabilities': [l.split()[1] for l in open('/proc/1/status') if l.startswith('CapEff')][0]}))"
    )
    process: dict[str, Any] = json.loads(stack.run("exec", "-T", service, "python3", "-c", script).stdout)
    assert (process["uid"], process["gid"]) == (stack.user, stack.group)
    assert int(process["capabilities"], 16) == 0
    assert not any(word.endswith(("/sh", "/bash", "/dash")) for word in process["argv"][:1])


@pytest.mark.parametrize("service", SERVERS)
@pytest.mark.parametrize("path", ["/probe", "/pki/probe", "/opt/venv/probe"])
def test_server_cannot_write_outside_its_data(stack: Stack, service: str, path: str) -> None:
    done = stack.run("exec", "-T", service, "python3", "-c", f"open({path!r}, 'w')", check=False)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr


def test_kubeconfig_belongs_to_the_user_of_the_stack_alone(stack: Stack) -> None:
    state = stack.kubeconfig.stat()
    assert stat.S_IMODE(state.st_mode) == 0o600
    assert (state.st_uid, state.st_gid) == (stack.user, stack.group)


def test_image_is_labelled_and_has_a_numeric_user() -> None:
    (image,) = json.loads(run_tool(["docker", "image", "inspect", IMAGE]).stdout)
    config = image["Config"]
    assert config["User"] == "1000:1000"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["StopSignal"] == "SIGTERM"
    assert not config["Entrypoint"]


def test_ports_are_open_to_this_host_only(stack: Stack) -> None:
    published = stack.inspect("aggregator")["NetworkSettings"]["Ports"]
    assert {binding["HostIp"] for bindings in published.values() for binding in bindings} == {"127.0.0.1"}
    assert not any(stack.inspect("example-service")["NetworkSettings"]["Ports"].values())
