"""The openssl script, run as a person runs it, in a copy of the repository's layout."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.unit.pki.handshakes import Files, handshake

SCRIPT = Path(__file__).parents[3] / "hack" / "make-aggregator-pki.sh"
SERVER_NAMES = [
    "localhost",
    "127.0.0.1",
    "example-apiserver.grafana.svc",
    "v0alpha1.example.grafana.app.default.svc",
    "example-service",
]
KEPT = ["kept  ca.crt ca.key", "kept  server.crt server.key", "kept  client.crt client.key"]


class Checkout:
    """A repository that holds nothing but the script; `made` is where the certificates go."""

    def __init__(self, root: Path) -> None:
        self.script = root / "hack" / SCRIPT.name
        self.made = root / "data" / "grafana-aggregator"
        self.script.parent.mkdir(parents=True)
        shutil.copy(SCRIPT, self.script)

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([self.script, *arguments], cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        return done

    def lines(self, *arguments: str) -> list[str]:
        """What the script did, without its first line."""
        return self.run(*arguments).stdout.splitlines()[1:]

    def content(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.made.iterdir()}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "a directory")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates that no test changes."""
    checkout = Checkout(tmp_path_factory.mktemp("openssl") / "repository")
    checkout.run()
    return checkout.made


def test_files_and_modes(made: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()}
    names = ("ca", "server", "client")
    assert modes == {f"{name}.crt": 0o644 for name in names} | {f"{name}.key": 0o600 for name in names}


@pytest.mark.parametrize("server_name", SERVER_NAMES)
def test_strict_mutual_tls(made: Path, server_name: str) -> None:
    peer = handshake(
        Files.of(made, "server"),
        server_ca=made / "ca.crt",
        server_name=server_name,
        client=Files.of(made, "client"),
        client_ca=made / "ca.crt",
    )
    assert peer is not None
    assert peer["subject"] == ((("commonName", "system:masters"),),)


def test_a_second_run_keeps_everything(checkout: Checkout) -> None:
    assert checkout.lines() == [line.replace("kept", "made") + " (missing)" for line in KEPT]
    before = checkout.content()
    assert checkout.lines() == KEPT
    assert checkout.content() == before


def test_force_makes_everything_anew(checkout: Checkout) -> None:
    checkout.run()
    before = checkout.content()
    assert checkout.lines("--force") == [line.replace("kept", "made") + " (forced)" for line in KEPT]
    after = checkout.content()
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())


def test_what_is_missing_or_damaged_is_made_again(checkout: Checkout) -> None:
    checkout.run()
    (checkout.made / "server.key").unlink()
    (checkout.made / "client.crt").write_text("damaged")
    assert checkout.lines() == [
        KEPT[0],
        "made  server.crt server.key (missing)",
        "made  client.crt client.key (key and certificate do not belong together)",
    ]
    assert checkout.lines() == KEPT


def test_certificates_of_another_authority_are_made_again(checkout: Checkout) -> None:
    checkout.run()
    (checkout.made / "ca.crt").unlink()
    (checkout.made / "ca.key").unlink()
    assert checkout.lines() == [
        "made  ca.crt ca.key (missing)",
        "made  server.crt server.key (not valid under ca.crt)",
        "made  client.crt client.key (not valid under ca.crt)",
    ]


def test_a_lost_authority_certificate_is_made_again_from_its_key(checkout: Checkout) -> None:
    checkout.run()
    (checkout.made / "ca.crt").unlink()
    assert checkout.lines() == ["made  ca.crt ca.key (certificate missing)", *KEPT[1:]]


@pytest.mark.parametrize("damage", ["ca.key", "ca.crt"])
def test_an_authority_that_cannot_be_used_is_not_overwritten(checkout: Checkout, damage: str) -> None:
    checkout.run()
    (checkout.made / damage).write_text("damaged")
    before = checkout.content()
    done = checkout.run(status=1)
    assert "ca.key does not belong to ca.crt" in done.stderr
    assert "--force" in done.stderr
    assert checkout.content() == before


def test_a_lost_authority_key_stops_the_script(checkout: Checkout) -> None:
    checkout.run()
    (checkout.made / "ca.key").unlink()
    assert "ca.key is missing while ca.crt is there" in checkout.run(status=1).stderr


def test_days_below_the_renewal_margin_do_not_make_a_run_restless(checkout: Checkout) -> None:
    checkout.run("--days", "10")
    assert checkout.lines("--days", "10") == KEPT
    assert checkout.lines() == [
        KEPT[0],
        "made  server.crt server.key (expires soon)",
        "made  client.crt client.key (expires soon)",
    ]


@pytest.mark.parametrize("arguments", [["--days", "0"], ["--days"], ["--days", "4000"], ["--what"]])
def test_wrong_usage(checkout: Checkout, arguments: list[str]) -> None:
    checkout.run(*arguments, status=2)
    assert not checkout.made.exists()


def test_help_writes_nothing(checkout: Checkout) -> None:
    assert checkout.run("--help").stdout.startswith("usage: make-aggregator-pki.sh")
    assert not checkout.made.exists()
