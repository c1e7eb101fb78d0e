"""Flow G: promtool and a real Prometheus accept what the aggregator shows, and the alert rules fire."""

import http.client
import json
import signal
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import EXAMPLE_API, REPOSITORY, Stack, parse_samples, run_tool
from tests.support.kubectl import Kubectl
from tests.support.waiting import free_port, wait_until

CONFIGURATION = REPOSITORY / "conf" / "prometheus"


def test_promtool_finds_nothing_to_say_about_the_metrics(stack: Stack) -> None:
    checked = run_tool(["promtool", "check", "metrics"], given=stack.plain("/metrics").text)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_metrics_need_no_credentials_on_the_plain_port_and_some_on_the_api_port(stack: Stack, kubectl: Kubectl) -> None:
    assert stack.plain("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")
    assert stack.secure("/metrics").status == 401
    assert "aggregator_unavailable_apiservice" in kubectl.ok("get", "--raw=/metrics")


def test_availability_has_the_names_and_words_of_the_original(stack: Stack) -> None:
    lines = stack.plain("/metrics").text.splitlines()
    about_gauge = "[ALPHA] Gauge of APIServices which are marked as unavailable broken down by APIService name."
    assert f"# HELP aggregator_unavailable_apiservice {about_gauge}" in lines
    assert "# TYPE aggregator_unavailable_apiservice gauge" in lines
    assert "# TYPE aggregator_unavailable_apiservice_total counter" in lines
    assert stack.samples("aggregator_unavailable_apiservice")[f'name="{EXAMPLE_API}"'] == 0


def test_proxied_requests_are_counted(stack: Stack, kubectl: Kubectl) -> None:
    def counted() -> float:
        samples = stack.samples("aggregator_proxy_requests_total")
        return samples.get(f'apiservice="{EXAMPLE_API}",code="200",method="GET"', 0) + samples.get(
            f'apiservice="{EXAMPLE_API}",method="GET",code="200"', 0
        )

    before = counted()
    kubectl.ok("get", "--raw=/apis/example.grafana.app/v0alpha1/runtime")
    assert counted() >= before + 1


def test_process_metrics_are_there(stack: Stack) -> None:
    text = stack.plain("/metrics").text
    assert parse_samples(text, "process_resident_memory_bytes")[""] > 1e6
    assert parse_samples(text, "process_open_fds")[""] > 0


def test_alert_rules_fire_when_they_should_and_only_then() -> None:
    tested = run_tool(["promtool", "test", "rules", str(CONFIGURATION / "tests" / "aggregator_test.yml")])
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_configuration_for_the_compose_profile_is_valid(stack: Stack) -> None:
    checked = run_tool(["promtool", "check", "config", str(CONFIGURATION / "prometheus.yml")])
    assert checked.returncode == 0, checked.stdout + checked.stderr
    rendered = json.loads(stack.run("--profile", "monitoring", "config", "--format", "json").stdout)
    mounts = [volume["target"] for volume in rendered["services"]["prometheus"]["volumes"]]
    assert "/etc/prometheus" in mounts


class Prometheus:
    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str, **query: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", f"/api/v1/{path}?{urllib.parse.urlencode(query)}")
            return json.loads(connection.getresponse().read())["data"]
        except (OSError, ValueError):
            return None
        finally:
            connection.close()

    def value(self, expression: str) -> float | None:
        """The value of an expression that has one series; None before there is one."""
        data = self.ask("query", query=expression)
        return float(data["result"][0]["value"][1]) if data and data["result"] else None


@pytest.fixture
def prometheus(stack: Stack, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus on this host with the repository's rules, scraping the stack every second."""
    port = free_port()
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(CONFIGURATION / "rules" / "*.yml")],
        "scrape_configs": [
            {"job_name": "aggregator", "static_configs": [{"targets": [f"127.0.0.1:{stack.metrics_port}"]}]}
        ],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(configuration))
    command = [
        "prometheus",
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield Prometheus(port)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)


def test_a_real_prometheus_scrapes_the_aggregator(prometheus: Prometheus) -> None:
    wait_until(lambda: prometheus.value('up{job="aggregator"}') == 1, seconds=20)
    wait_until(lambda: prometheus.value(f'aggregator_unavailable_apiservice{{name="{EXAMPLE_API}"}}') == 0, seconds=10)
    assert prometheus.value("count(aggregator_proxy_requests_total)") is not None
    target = prometheus.ask("targets")["activeTargets"][0]
    assert (target["health"], target["lastError"]) == ("up", "")
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} >= {"APIServiceUnavailable", "APIServiceFlapping", "AggregatorDown"}
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
