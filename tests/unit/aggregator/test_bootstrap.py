import asyncio
import contextlib
import logging
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aggregator import bootstrap, settings
from aggregator.bootstrap import BootstrapError
from aggregator.settings import Settings
from pki import authority, plan, write
from tests.unit.pki.handshakes import Files, handshake

NOW = datetime.now(UTC)


def configured(data: Path, **env: str) -> Settings:
    return settings.load(None, {"GF_PATHS_DATA": str(data)} | env).settings


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    write.issue(directory, plan.development_plan(), now=NOW)
    return directory


def test_an_aggregator_without_certificates_issues_its_own(tmp_path: Path) -> None:
    data = tmp_path / "data"
    credentials = bootstrap.ensure(configured(data, GF_SERVER_EXTERNAL_URL="https://api.example:7443"), now=NOW)
    assert credentials.changed == ("ca", "client-ca", "aggregator", "admin")
    assert credentials.admin_cert_file is not None
    assert credentials.admin_key_file is not None
    for name in ("localhost", "127.0.0.1", "::1", "api.example"):
        peer = handshake(
            Files(credentials.tls_cert_file, credentials.tls_private_key_file),
            server_ca=credentials.tls_ca_file,
            server_name=name,
            client=Files(credentials.admin_cert_file, credentials.admin_key_file),
            client_ca=credentials.client_ca_file,
        )
        assert peer is not None
        assert peer["subject"] == ((("organizationName", "system:masters"),), (("commonName", "grafana-admin"),))
    directory = data / "grafana-apiserver" / "pki"
    assert credentials.tls_cert_file.parent == directory
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.glob("*.key")} == {0o600}


def test_a_second_start_keeps_them(tmp_path: Path) -> None:
    first = bootstrap.ensure(configured(tmp_path), now=NOW)
    before = first.tls_cert_file.read_bytes()
    second = bootstrap.ensure(configured(tmp_path), now=NOW + timedelta(days=100))
    assert second.changed == ()
    assert second.tls_cert_file.read_bytes() == before


def test_near_their_end_they_are_issued_again(tmp_path: Path) -> None:
    bootstrap.ensure(configured(tmp_path), now=NOW - timedelta(days=300))
    assert bootstrap.ensure(configured(tmp_path), now=NOW).changed == ("aggregator", "admin")


def test_another_external_url_means_another_certificate(tmp_path: Path) -> None:
    bootstrap.ensure(configured(tmp_path), now=NOW)
    again = bootstrap.ensure(configured(tmp_path, GF_SERVER_EXTERNAL_URL="https://10.0.0.1"), now=NOW)
    assert again.changed == ("aggregator",)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        pytest.param({}, ("localhost", "aggregator", "127.0.0.1", "::1"), id="defaults"),
        pytest.param(
            {"GF_SERVER_EXTERNAL_URL": "https://api.example:1", "GF_SERVER_BIND_ADDRESS": "10.0.0.1"},
            ("localhost", "aggregator", "127.0.0.1", "::1", "api.example", "10.0.0.1"),
            id="added",
        ),
        pytest.param(
            {"GF_SERVER_EXTERNAL_URL": "https://[fd00::1]:1", "GF_SERVER_BIND_ADDRESS": "::"},
            ("localhost", "aggregator", "127.0.0.1", "::1", "fd00::1"),
            id="every interface has no name",
        ),
        pytest.param(
            {"GF_SERVER_BIND_ADDRESS": "localhost"}, ("localhost", "aggregator", "127.0.0.1", "::1"), id="localhost"
        ),
    ],
)
def test_serving_names(tmp_path: Path, env: dict[str, str], expected: tuple[str, ...]) -> None:
    assert bootstrap.serving_names(configured(tmp_path, **env)) == expected


def test_with_everything_configured_nothing_is_issued(tmp_path: Path, pki: Path) -> None:
    credentials = bootstrap.ensure(
        configured(
            tmp_path,
            GF_SERVER_TLS_CERT_FILE=str(pki / "aggregator.crt"),
            GF_SERVER_TLS_PRIVATE_KEY_FILE=str(pki / "aggregator.key"),
            GF_SERVER_TLS_CA_FILE=str(pki / "ca.crt"),
            GF_SERVER_CLIENT_CA_FILE=str(pki / "client-ca.crt"),
        ),
        now=NOW,
    )
    assert credentials == bootstrap.Credentials(
        tls_cert_file=pki / "aggregator.crt",
        tls_private_key_file=pki / "aggregator.key",
        tls_ca_file=pki / "ca.crt",
        client_ca_file=pki / "client-ca.crt",
        admin_cert_file=None,
        admin_key_file=None,
        changed=(),
    )
    assert list(tmp_path.iterdir()) == []


def test_with_only_serving_configured_users_get_an_authority(tmp_path: Path, pki: Path) -> None:
    credentials = bootstrap.ensure(
        configured(
            tmp_path,
            GF_SERVER_TLS_CERT_FILE=str(pki / "aggregator.crt"),
            GF_SERVER_TLS_PRIVATE_KEY_FILE=str(pki / "aggregator.key"),
        ),
        now=NOW,
    )
    assert credentials.changed == ("client-ca", "admin")
    assert credentials.tls_ca_file == pki / "aggregator.crt"


def test_with_only_users_configured_the_serving_certificate_is_issued(tmp_path: Path, pki: Path) -> None:
    credentials = bootstrap.ensure(
        configured(
            tmp_path,
            GF_SERVER_CLIENT_CA_FILE=str(pki / "client-ca.crt"),
            GF_GRAFANA_APISERVER_KUBECTL_CLIENT_CERT_FILE=str(pki / "admin.crt"),
            GF_GRAFANA_APISERVER_KUBECTL_CLIENT_KEY_FILE=str(pki / "admin.key"),
        ),
        now=NOW,
    )
    assert credentials.changed == ("ca", "aggregator")
    assert credentials.admin_cert_file == pki / "admin.crt"


def test_an_open_directory_is_closed(tmp_path: Path) -> None:
    directory = bootstrap.pki_directory(tmp_path)
    directory.mkdir(parents=True, mode=0o755)
    bootstrap.ensure(configured(tmp_path), now=NOW)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(BootstrapError, match=r"cannot issue certificates in .*/pki: .*: Not a directory"):
        bootstrap.ensure(configured(tmp_path / "data"), now=NOW)


def test_a_damaged_authority_stops_the_start(tmp_path: Path) -> None:
    bootstrap.ensure(configured(tmp_path), now=NOW)
    (bootstrap.pki_directory(tmp_path) / "client-ca.key").write_text("damaged")
    with pytest.raises(BootstrapError, match=r"client-ca\.key: not a PEM private key"):
        bootstrap.ensure(configured(tmp_path), now=NOW)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BootstrapError, match="No space left on device"):
        bootstrap.ensure(configured(tmp_path), now=NOW)
    assert list(bootstrap.pki_directory(tmp_path).iterdir()) == []


def test_the_issued_authority_signed_the_certificate(tmp_path: Path) -> None:
    credentials = bootstrap.ensure(configured(tmp_path), now=NOW)
    leaf = authority.load_certificate(credentials.tls_cert_file.read_bytes())
    leaf.verify_directly_issued_by(authority.load_certificate(credentials.tls_ca_file.read_bytes()))


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def renewing(configured_with: Settings, until: Callable[[], bool]) -> None:
    task = asyncio.create_task(bootstrap.renew_daily(configured_with, seconds=0.02))
    await wait_for(lambda: until() or task.done())
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_what_comes_close_to_its_end_is_renewed_while_running(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = bootstrap.ensure(configured(tmp_path), now=NOW - timedelta(days=300))
    old, key = credentials.tls_cert_file.read_bytes(), credentials.tls_private_key_file.read_bytes()
    with caplog.at_level(logging.INFO):
        await renewing(configured(tmp_path), lambda: "certificates renewed" in caplog.text)
    new = authority.load_certificate(credentials.tls_cert_file.read_bytes())
    assert authority.certificate_pem(new) != old
    assert new.not_valid_after_utc > NOW + timedelta(days=300)
    # With the same key there is no moment in which the two files do not match.
    assert credentials.tls_private_key_file.read_bytes() == key


async def test_a_renewal_that_fails_is_logged_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    credentials = bootstrap.ensure(configured(tmp_path), now=NOW - timedelta(days=300))
    key = credentials.tls_ca_file.with_suffix(".key")
    good = key.read_bytes()
    key.write_text("damaged")

    def seen() -> bool:
        if "certificates not renewed" in caplog.text:
            key.write_bytes(good)
        return "certificates renewed" in caplog.text

    with caplog.at_level(logging.INFO):
        await renewing(configured(tmp_path), seen)
    assert authority.load_certificate(credentials.tls_cert_file.read_bytes()).not_valid_after_utc > NOW


async def test_nothing_is_renewed_where_everything_is_configured(tmp_path: Path, pki: Path) -> None:
    async with asyncio.timeout(1):
        await bootstrap.renew_daily(
            configured(
                tmp_path,
                GF_SERVER_TLS_CERT_FILE=str(pki / "aggregator.crt"),
                GF_SERVER_TLS_PRIVATE_KEY_FILE=str(pki / "aggregator.key"),
                GF_SERVER_CLIENT_CA_FILE=str(pki / "client-ca.crt"),
            )
        )
