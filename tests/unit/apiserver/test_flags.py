import argparse
from pathlib import Path

import pytest

from apimachinery.gvk import GroupVersion
from apiserver.flags import FlagError, add_flags, parse_flags, parse_runtime_config

V1, V2 = GroupVersion("g.example.com", "v1"), GroupVersion("g.example.com", "v2")


@pytest.mark.parametrize(
    ("settings", "disabled"),
    [
        pytest.param([], set(), id="nothing said"),
        pytest.param(["g.example.com/v1=true"], set(), id="on"),
        pytest.param(["g.example.com/v1=false"], {V1}, id="off"),
        pytest.param(["api/all=false"], {V1, V2}, id="all off"),
        pytest.param(["api/all=false", "g.example.com/v2=true"], {V1}, id="all off but one"),
        pytest.param(["g.example.com/v2=true", "api/all=false"], {V1}, id="order does not matter"),
        pytest.param(["g.example.com/v1"], set(), id="a bare name is on"),
    ],
)
def test_runtime_config(settings: list[str], disabled: set[GroupVersion]) -> None:
    assert parse_runtime_config(settings, [V1, V2]) == disabled


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("g.example.com/v1=maybe", "must be true or false"),
        ("other/v1=true", "unknown group version, this server has g.example.com/v1"),
        ("nonsense=true", "unknown group version"),
    ],
)
def test_runtime_config_refuses(setting: str, text: str) -> None:
    with pytest.raises(FlagError, match=text):
        parse_runtime_config([setting], [V1])


@pytest.fixture
def required(tmp_path: Path) -> list[str]:
    file = tmp_path / "x.pem"
    file.write_text("")
    flags = ("tls-cert-file", "tls-private-key-file", "requestheader-client-ca-file")
    return [f"--{flag}={file}" for flag in flags]


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return parser.parse_args(arguments)


def test_the_flags_of_a_kubernetes_server(required: list[str]) -> None:
    given = [
        *required,
        "--runtime-config=g.example.com/v1=true",
        "--secure-port",
        "7443",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group,X-Team",
        "--requestheader-username-headers=X-Remote-User",
        "--shutdown-delay-seconds=2.5",
        "-v",
        "10",
    ]
    flags = parse_flags(parse(given), [V1])
    assert (flags.secure_port, flags.verbosity, flags.disabled) == (7443, 10, frozenset())
    assert (flags.shutdown_delay_seconds, flags.shutdown_grace_seconds) == (2.5, 10)
    assert flags.requestheader_names.group == ("X-Remote-Group", "X-Team")
    assert flags.requestheader_names.uid == ("x-remote-uid",)


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        (["--secure-port=70000"], "--secure-port: must be between 0 and 65535"),
        (["--client-ca-file=/nope"], "--client-ca-file: no such file: /nope"),
        (["--authorization-kubeconfig=/nope"], "--authorization-kubeconfig: no such file: /nope"),
    ],
)
def test_wrong_values_name_their_flag(required: list[str], extra: list[str], text: str) -> None:
    with pytest.raises(FlagError, match=text):
        parse_flags(parse(required + extra), [V1])


def test_revocation_lists(required: list[str], tmp_path: Path) -> None:
    file = tmp_path / "list.crl"
    file.touch()
    lists = [f"--client-ca-crl-file={file}", f"--requestheader-client-ca-crl-file={file}"]
    flags = parse_flags(parse([*required, f"--client-ca-file={file}", *lists]), [])
    assert (flags.client_crl, flags.requestheader_crl) == (file, file)
    with pytest.raises(FlagError, match="--client-ca-crl-file: needs --client-ca-file"):
        parse_flags(parse([*required, *lists]), [])
    with pytest.raises(FlagError, match="--client-ca-crl-file: no such file"):
        parse_flags(parse([*required, "--client-ca-crl-file=/nowhere"]), [])
