import os
from pathlib import Path

import pytest

from pki import cli

NAMES = ["ca", "client-ca", "aggregator", "admin", "front-proxy-ca", "example-apiserver", "front-proxy-client"]


def test_issue_prints_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["issue", "--dir", str(tmp_path / "pki")]
    assert cli.main(command) == 0
    first = capsys.readouterr().out.splitlines()
    assert cli.main([*command, "--example-san", "a.example", "10.0.0.1"]) == 0
    second = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0].split() for line in first] == [["issued", name] for name in NAMES]
    issued = [line for line in second if not line.startswith("kept ")]
    assert len(issued) == 1
    assert issued[0].startswith("renewed  example-apiserver, valid until ")
    assert issued[0].endswith(" (names changed: +10.0.0.1 +a.example)")


def test_days(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["issue", "--dir", str(tmp_path), "--days", "3"]
    assert cli.main(command) == 0
    assert cli.main(["show", "--dir", str(tmp_path)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[len(NAMES) + 1 :]]
    assert {row[0]: row[3] for row in rows} == {name: "3649d" if name.endswith("ca") else "2d" for name in NAMES}
    assert cli.main(command) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if not line.startswith("kept ")] == []


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["issue", "--dir", str(tmp_path)]) == 0
    (tmp_path / "admin.crt").unlink()
    (tmp_path / "client-ca.key").unlink()
    (tmp_path / "ca.key").write_bytes((tmp_path / "front-proxy-ca.key").read_bytes())
    capsys.readouterr()
    assert cli.main(["show", "--dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "EXPIRES", "LEFT", "STATE", "SUBJECT", "NAMES"]
    state = lines[0].index("STATE")
    states = {line.split()[0]: line[state:].split("  ")[0] for line in lines[1:]}
    assert states == {
        "ca": "key does not match",
        "client-ca": "ok, key elsewhere",
        "aggregator": "ok",
        "admin": "missing",
        "front-proxy-ca": "ok",
        "example-apiserver": "ok",
        "front-proxy-client": "ok",
    }


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[str]:
    assert cli.main(arguments) == code
    taken = capsys.readouterr()
    return (taken.err if code else taken.out).splitlines()


def test_renew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--dir", str(tmp_path))
    run(capsys, "issue", *where, "--days", "9")
    assert {line.split()[0] for line in run(capsys, "renew", *where)} == {"kept"}
    (authority, admin) = run(capsys, "renew", *where, "admin", "--days", "30")
    assert authority.startswith("kept     client-ca, ")
    assert admin.startswith("renewed  admin, valid until ")
    assert admin.endswith("(asked for)")
    done = [line.split(",")[0].split() for line in run(capsys, "renew", *where, "--all", "--new-keys")]
    assert done == [["kept" if name.endswith("ca") else "issued", name] for name in NAMES]
    assert run(capsys, "renew", *where, "nobody", code=1) == [f"aggregator-pki: {tmp_path}: no certificate nobody.crt"]


def test_rotate_ca(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--dir", str(tmp_path))
    run(capsys, "issue", *where)
    assert run(capsys, "rotate-ca", "client-ca", *where) == ["client-ca: idle, next step: trust"]
    assert run(capsys, "rotate-ca", "client-ca", "switch", *where, code=1) == [
        "aggregator-pki: nobody trusts a next authority of client-ca yet, next step: trust"
    ]
    assert run(capsys, "rotate-ca", "client-ca", "trust", *where) == [
        "client-ca.crt trusts API aggregator client CA G2 as well",
        "client-ca: trusted, next step: switch",
    ]
    rows = [line.split("  ") for line in run(capsys, "show", *where)]
    assert [row[0] for row in rows if "trusted as well" in row] == ["client-ca +"]
    assert run(capsys, "rotate-ca", "client-ca", "switch", *where) == [
        "client-ca.key is the key of the next authority",
        "admin.crt is signed by it",
        "client-ca: switched, next step: finish",
    ]
    for done in ("client-ca.crt trusts API aggregator client CA G2 alone", "nothing to do"):
        assert run(capsys, "rotate-ca", "client-ca", "finish", *where) == [done, "client-ca: idle, next step: trust"]


def test_show_without_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "--dir", str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err == f"aggregator-pki: {tmp_path}/nowhere: no such directory\n"


def test_owner_and_also_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[object, tuple[int, int]] = {}
    monkeypatch.setattr(os, "chown", lambda target, uid, gid: given.update({target: (uid, gid)}))
    data = tmp_path / "data" / "grafana-apiserver"
    arguments = ["--owner", "1000:1001", "--also-own", str(data)]
    assert cli.main(["issue", "--dir", str(tmp_path / "pki"), *arguments]) == 0
    assert data.is_dir()
    assert {given[path] for path in (data, data.parent, tmp_path / "pki")} == {(1000, 1001)}


def test_a_wrong_name_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["issue", "--dir", str(tmp_path), "--aggregator-san", "a b"]) == 1
    assert capsys.readouterr().err == "aggregator-pki: 'a b' is neither an IP address nor a DNS name\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(["--owner", "me"], "'me' is not UID:GID, two numbers", id="owner by name"),
        pytest.param(["--days", "0"], "'0' is not a number of days from 1 to 3650", id="no days"),
        pytest.param(["--days", "4000"], "'4000' is not a number of days from 1 to 3650", id="too many days"),
    ],
)
def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["issue", "--dir", str(tmp_path), *arguments])
    assert caught.value.code == 2
    assert text in capsys.readouterr().err
