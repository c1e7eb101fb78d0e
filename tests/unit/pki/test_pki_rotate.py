"""Rotation and renewal on real files, also when they are interrupted at any change of a file."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pki import authority, files, rotate, write
from pki.plan import Action, PKIError, development_plan
from pki.rotation import Stage, Step, stage
from tests.unit.pki.handshakes import Files, handshake

NOW = datetime.now(UTC)
PLANS = development_plan()
LEAVES = {plan.name: plan.issuer for plan in PLANS if plan.issuer}
STEPS = (Step.TRUST, Step.SWITCH, Step.FINISH)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write.issue(tmp_path / "pki", development_plan(aggregator_sans=["api.example"]), now=NOW)
    return tmp_path / "pki"


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def bundle(directory: Path, name: str) -> list[str]:
    """The common names in a file."""
    found = authority.load_bundle((directory / f"{name}.crt").read_bytes())
    return [authority.describe(one).common_name for one in found]


def assert_usable(directory: Path) -> None:
    """Every pair matches, and every leaf is trusted by the bundle that is there."""
    for name, issuer in LEAVES.items():
        leaf = authority.load_certificate((directory / f"{name}.crt").read_bytes())
        assert authority.matches(leaf, authority.load_key((directory / f"{name}.key").read_bytes())), name
        trusted = authority.load_bundle((directory / f"{issuer}.crt").read_bytes())
        assert any(authority.signed_by(leaf, one) for one in trusted), name
        key = authority.load_key((directory / f"{issuer}.key").read_bytes())
        assert any(authority.matches(one, key) for one in trusted), issuer


def rotate_all(directory: Path, name: str) -> None:
    for step in STEPS:
        rotate.advance(directory, name, step, PLANS, now=NOW)


@pytest.mark.parametrize("name", ["ca", "client-ca", "front-proxy-ca"])
def test_a_whole_rotation(directory: Path, name: str) -> None:
    before = content(directory)
    first = bundle(directory, name)
    second = [f"{first[0]} G2"]
    rotate.advance(directory, name, Step.TRUST, PLANS, now=NOW)
    assert bundle(directory, name) == first + second
    assert {file for file, data in content(directory).items() if before.get(file) != data} == {
        f"{name}.crt",
        f"{name}-next.crt",
        f"{name}-next.key",
    }
    rotate.advance(directory, name, Step.SWITCH, PLANS, now=NOW)
    assert bundle(directory, name) == second + first
    rotate.advance(directory, name, Step.FINISH, PLANS, now=NOW)
    assert bundle(directory, name) == second
    assert_usable(directory)
    after = content(directory)
    changed = {file for file in before if before[file] != after[file]}
    assert changed == {f"{name}.crt", f"{name}.key", *(f"{leaf}.crt" for leaf in LEAVES if LEAVES[leaf] == name)}
    assert after.keys() == before.keys()
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.glob("*.key")} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.glob("*.crt")} == {0o644}


def test_names_asked_for_once_survive(directory: Path) -> None:
    rotate_all(directory, "ca")
    for server_name in ("api.example", "localhost"):
        assert (
            handshake(Files.of(directory, "aggregator"), server_ca=directory / "ca.crt", server_name=server_name)
            is None
        )


def test_every_mixture_of_old_and_new_trusts_each_other_between_the_steps(directory: Path) -> None:
    old = directory.parent / "old"
    old.mkdir()
    for name, data in content(directory).items():
        (old / name).write_bytes(data)
    rotate.advance(directory, "ca", Step.TRUST, PLANS, now=NOW)
    both = directory / "ca.crt"
    assert handshake(Files.of(old, "aggregator"), server_ca=both, server_name="localhost") is None
    rotate.advance(directory, "ca", Step.SWITCH, PLANS, now=NOW)
    for where in (old, directory):
        assert handshake(Files.of(where, "aggregator"), server_ca=both, server_name="localhost") is None


def test_a_second_rotation_counts_on(directory: Path) -> None:
    rotate_all(directory, "ca")
    rotate_all(directory, "ca")
    assert bundle(directory, "ca") == ["API aggregator serving CA G3"]
    assert_usable(directory)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_done_twice_changes_nothing(directory: Path, step: Step) -> None:
    for earlier in STEPS[: STEPS.index(step) + 1]:
        rotate.advance(directory, "ca", earlier, PLANS, now=NOW)
    before = content(directory)
    assert rotate.advance(directory, "ca", step, PLANS, now=NOW + timedelta(hours=1)).done == ()
    assert content(directory) == before


@pytest.mark.parametrize("step", STEPS)
def test_issue_between_the_steps_changes_nothing(directory: Path, step: Step) -> None:
    for earlier in STEPS[: STEPS.index(step) + 1]:
        rotate.advance(directory, "ca", earlier, PLANS, now=NOW)
    before = content(directory)
    write.issue(directory, development_plan(aggregator_sans=["api.example"]), now=NOW)
    assert content(directory) == before


class Interrupted(BaseException):
    """The process is killed: nothing of it runs on."""


@contextmanager
def killed_before(monkeypatch: pytest.MonkeyPatch, change: int) -> Iterator[list[str]]:
    """End the process before its nth change of a name in the directory; what was changed is listed."""
    changes: list[str] = []

    def counted(original: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: object, **options: object) -> None:
            if len(changes) == change:
                raise Interrupted
            changes.append(str(arguments[-1]))
            original(*arguments, **options)

        return run

    with monkeypatch.context() as patch:
        # Path.replace and Path.unlink call these.
        patch.setattr(os, "replace", counted(os.replace))
        yield changes


@pytest.mark.parametrize("step", STEPS)
def test_a_step_killed_anywhere_is_usable_and_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    change = 0
    while True:
        directory = tmp_path / str(change)
        write.issue(directory, PLANS, now=NOW)
        for earlier in STEPS[: STEPS.index(step)]:
            rotate.advance(directory, "ca", earlier, PLANS, now=NOW)
        with killed_before(monkeypatch, change):
            try:
                rotate.advance(directory, "ca", step, PLANS, now=NOW)
            except Interrupted:
                pass
            else:
                break
        assert_usable(directory)
        for later in STEPS[STEPS.index(step) :]:
            rotate.advance(directory, "ca", later, PLANS, now=NOW)
        assert bundle(directory, "ca") == ["API aggregator serving CA G2"]
        assert_usable(directory)
        assert {path.suffix for path in directory.iterdir()} == {".crt", ".key"}
        assert not list(directory.glob("ca-next*"))
        change += 1
    assert change == {Step.TRUST: 3, Step.SWITCH: 4, Step.FINISH: 1}[step]


def test_finish_waits_for_leaves_that_were_put_back(directory: Path) -> None:
    before = content(directory)
    rotate.advance(directory, "ca", Step.TRUST, PLANS, now=NOW)
    rotate.advance(directory, "ca", Step.SWITCH, PLANS, now=NOW)
    (directory / "aggregator.crt").write_bytes(before["aggregator.crt"])
    with pytest.raises(PKIError, match="aggregator: still signed by the previous authority of ca, next step: switch"):
        rotate.advance(directory, "ca", Step.FINISH, PLANS, now=NOW)
    rotate.advance(directory, "ca", Step.SWITCH, PLANS, now=NOW)
    rotate.advance(directory, "ca", Step.FINISH, PLANS, now=NOW)
    assert_usable(directory)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        pytest.param(lambda d: (d / "ca.key").unlink(), "ca.crt and ca.key are needed", id="no key"),
        pytest.param(
            lambda d: (d / "ca.key").write_bytes((d / "admin.key").read_bytes()),
            "ca.key belongs to no certificate of ca.crt",
            id="another key",
        ),
        pytest.param(lambda d: (d / "ca.crt").write_text("x"), "ca.crt: not a PEM certificate", id="damaged"),
        pytest.param(lambda d: (d / "ca.key").write_text("x"), "ca.key: not a PEM private key", id="damaged key"),
        pytest.param(
            lambda d: (d / "aggregator.crt").write_text("x"), "aggregator.crt: not a PEM certificate", id="bad leaf"
        ),
    ],
)
def test_unusable_files(directory: Path, spoil: Callable[[Path], object], text: str) -> None:
    spoil(directory)
    before = content(directory)
    with pytest.raises(PKIError, match=text):
        rotate.advance(directory, "ca", Step.TRUST, PLANS, now=NOW)
    assert content(directory) == before


def test_status_changes_nothing(directory: Path) -> None:
    before = content(directory)
    assert stage(rotate.status(directory, "ca", PLANS)) is Stage.IDLE
    assert content(directory) == before


def renewed(outcomes: list[write.Outcome]) -> dict[str, tuple[Action, str]]:
    return {one.name: (one.action, one.reason) for one in outcomes if one.action is not Action.KEEP}


def test_renew_leaves_what_is_fresh(directory: Path) -> None:
    before = content(directory)
    assert renewed(rotate.renew(directory, PLANS, now=NOW)) == {}
    assert content(directory) == before


def test_renew_what_is_due(tmp_path: Path) -> None:
    write.issue(tmp_path, development_plan(aggregator_sans=["api.example"]), now=NOW - timedelta(days=300))
    keys = {name: data for name, data in content(tmp_path).items() if name.endswith(".key")}
    done = renewed(rotate.renew(tmp_path, PLANS, now=NOW))
    assert done == dict.fromkeys(LEAVES, (Action.RENEW, f"expires on {NOW + timedelta(days=65):%Y-%m-%d}"))
    assert_usable(tmp_path)
    assert {name: data for name, data in content(tmp_path).items() if name.endswith(".key")} == keys
    found = authority.describe(authority.load_certificate((tmp_path / "aggregator.crt").read_bytes()))
    assert "api.example" in found.sans
    assert abs(found.not_after - NOW - timedelta(days=365)) < timedelta(seconds=2)


def test_renew_by_name_and_every_leaf(directory: Path) -> None:
    assert renewed(rotate.renew(directory, PLANS, now=NOW, names=["admin"])) == {"admin": (Action.RENEW, "asked for")}
    assert renewed(rotate.renew(directory, PLANS, now=NOW, every=True)).keys() == LEAVES.keys()
    assert renewed(rotate.renew(directory, PLANS, now=NOW, names=["ca"])) == {"ca": (Action.RENEW, "asked for")}
    assert_usable(directory)


def test_renew_for_other_days(directory: Path) -> None:
    (outcome,) = (one for one in rotate.renew(directory, PLANS, now=NOW, names=["admin"], days=7) if one.reason)
    assert abs(outcome.not_after - NOW - timedelta(days=7)) < timedelta(seconds=2)


def test_renewing_an_authority_keeps_what_its_file_trusts_besides(directory: Path) -> None:
    rotate.advance(directory, "ca", Step.TRUST, PLANS, now=NOW)
    names = bundle(directory, "ca")
    rotate.renew(directory, PLANS, now=NOW, names=["ca"])
    assert bundle(directory, "ca") == names
    assert stage(rotate.status(directory, "ca", PLANS)) is Stage.TRUSTED


def test_an_unknown_name(directory: Path) -> None:
    with pytest.raises(PKIError, match=r"no certificate nobody\.crt"):
        rotate.renew(directory, PLANS, now=NOW, names=["nobody"])


def test_new_keys_killed_anywhere_are_completed_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for change in range(4):
        directory = tmp_path / str(change)
        write.issue(directory, PLANS, now=NOW)
        before = content(directory)
        with killed_before(monkeypatch, change) as changes, pytest.raises(Interrupted):
            rotate.renew(directory, PLANS, now=NOW, names=["admin"], new_keys=True)
        assert len(changes) == change
        write.issue(directory, PLANS, now=NOW)
        assert_usable(directory)
        # Once both files are staged there is no way back, before that nothing has happened.
        assert (content(directory) == before) == (change < 2)


def test_a_new_key_is_another_key(directory: Path) -> None:
    before = (directory / "admin.key").read_bytes()
    done = renewed(rotate.renew(directory, PLANS, now=NOW, names=["admin"], new_keys=True))
    assert done == {"admin": (Action.ISSUE, "asked for")}
    assert (directory / "admin.key").read_bytes() != before
    assert_usable(directory)


def test_files_that_root_replaces_stay_with_their_owner(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: set[tuple[int, int]] = set()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(files, "owner_of", lambda path: files.Owner(1000, 1001))
    monkeypatch.setattr(os, "chown", lambda target, uid, gid: given.add((uid, gid)))
    rotate.renew(directory, PLANS, now=NOW, names=["admin"])
    rotate_all(directory, "ca")
    assert given == {(1000, 1001)}
