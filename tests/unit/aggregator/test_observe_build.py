"""From settings to what is recorded: files, the reload of the policy, and what keeps the program from starting."""

import asyncio
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from aggregator import reloads
from aggregator.errors import StartError
from aggregator.observe.build import Observation
from aggregator.settings import check_config
from tests.unit.aggregator.custom_ini import load_text, problems
from tests.unit.aggregator.observe_kit import POLICY


@pytest.fixture(autouse=True)
def _in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(f"{POLICY}- level: Metadata\n")


def observation(text: str) -> Observation:
    return Observation(load_text(text).settings, CollectorRegistry())


async def test_nothing_is_observed_unless_asked() -> None:
    made = observation("")
    assert made.observer is None
    await made.stop()


async def test_files_are_made_on_start_for_their_owner_only(tmp_path: Path) -> None:
    made = observation("[audit]\npolicy_file = policy.yaml\nlog_path = a.log\n[access_log]\npath = b.log\n")
    assert made.observer is not None
    assert len(made.observer.sinks) == 2
    await made.stop()
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a.log", "b.log")] == [0o600, 0o600]


async def test_a_changed_policy_is_taken_over() -> None:
    made = observation("[audit]\npolicy_file = policy.yaml\nlog_path = a.log\n")
    told = asyncio.Event()
    made.on_policy_change(told.set)
    files = reloads.reloader(CollectorRegistry())
    made.follow(files)
    following = asyncio.create_task(files.run(0.01))
    Path("policy.yaml").write_text(f"{POLICY}- level: nonsense\n")
    await asyncio.sleep(0.1)
    assert not told.is_set()
    Path("policy.yaml").write_text(f"{POLICY}- {{level: None, verbs: [get]}}\n- level: Request\n")
    async with asyncio.timeout(5):
        await told.wait()
    following.cancel()
    await made.stop()
    assert made.observer is not None
    (audit,) = made.observer.sinks
    assert len(audit.policy.rules) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("[audit]\npolicy_file = policy.yaml\nlog_path = no/a.log\n", "a.log: No such file", id="audit"),
        pytest.param("[access_log]\npath = /proc/a.log\n", "cannot write /proc/a.log: ", id="access"),
    ],
)
def test_a_file_that_cannot_be_written_keeps_it_from_starting(text: str, fault: str) -> None:
    with pytest.raises(StartError, match=fault):
        observation(text)


def test_a_bad_policy_is_told_by_check_config_and_on_start() -> None:
    Path("policy.yaml").write_text(f"{POLICY}- level: All\n")
    text = "[audit]\npolicy_file = policy.yaml\nlog_path = a.log\n"
    with pytest.raises(StartError, match=r"policy\.yaml:4: rules\[0\]\.level: 'All' is not one of"):
        observation(text)
    code, told = check_config(Path("custom.ini"), {})
    assert code == 2
    assert "policy.yaml:4: rules[0].level: 'All' is not one of None, Metadata" in told


def test_traces_need_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "aggregator.observe.tracing", raising=False)
    with pytest.raises(StartError, match=r"otlp_endpoint is set, but opentelemetry is not installed: pip install"):
        observation("[tracing]\notlp_endpoint = http://localhost:4318\n")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("[tracing]\notlp_endpoint = localhost:4318\n", "not a URL without query", id="endpoint"),
        pytest.param("[tracing]\nsampling_ratio = 2\n", "not a number from 0 to 1", id="ratio"),
        pytest.param("[audit]\nwhen_full = wait\n", "not one of drop, block", id="when-full"),
        pytest.param("[audit]\npolicy_file = none.yaml\n", "cannot read", id="policy"),
    ],
)
def test_values_are_checked(text: str, fault: str) -> None:
    (problem,) = problems(text)
    assert fault in problem
