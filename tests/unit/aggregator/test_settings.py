import ast
import inspect
import re
from pathlib import Path

import pytest

from aggregator import settings
from aggregator.settings import Settings, SettingsError, ini, model
from aggregator.settings.declared import env_name, sections
from aggregator.settings.load import defaults_file
from apimachinery.identity import RequestHeaderNames
from tests.unit.aggregator.custom_ini import load_text, problems

pytestmark = pytest.mark.usefixtures("in_empty_directory")


def test_defaults(tmp_path: Path) -> None:
    loaded = settings.load(None, {})
    assert loaded.warnings == ()
    assert loaded.settings == Settings(
        default=model.Default(app_mode="production"),
        paths=model.Paths(data=tmp_path / "data"),
        log=model.Log(level="info", format="logfmt"),
        server=model.Server(
            bind_address="127.0.0.1",
            secure_port=6443,
            tls_cert_file=None,
            tls_private_key_file=None,
            tls_ca_file=None,
            client_ca_file=None,
            client_crl_file=None,
            external_url="https://localhost:6443",
            alpn=("http/1.1", "h2"),
            metrics_bind_address="127.0.0.1",
            metrics_port=8080,
            workers=0,
            shutdown_delay_seconds=0,
            shutdown_grace_seconds=8,
        ),
        limits=model.ClientLimits(
            max_connections=20000,
            max_connections_per_address=0,
            max_requests_inflight=400,
            max_mutating_requests_inflight=200,
            user_share_percent=75,
            max_header_fields=256,
            max_url_bytes=65536,
            max_body_bytes=0,
            min_body_bytes_per_second=100,
            unread_response_seconds=30,
        ),
        requestheader=model.RequestHeader(
            client_ca_file=None,
            crl_file=None,
            allowed_names=(),
            username_headers=("X-Remote-User",),
            uid_headers=("X-Remote-Uid",),
            group_headers=("X-Remote-Group",),
            extra_headers_prefix=("X-Remote-Extra-",),
        ),
        authentication=model.Authentication(
            token_file=None,
            anonymous_paths=("/healthz", "/livez", "/readyz"),
            webhook_config_file=None,
            webhook_cache_seconds=120,
        ),
        oidc=model.OIDC(
            issuer_url="",
            client_id="",
            ca_file=None,
            username_claim="sub",
            username_prefix="",
            groups_claim="",
            groups_prefix="",
            required_claims=(),
            signing_algs=("RS256",),
        ),
        authorization=model.Authorization(
            policy_file=None,
            always_allow_paths=("/healthz", "/livez", "/readyz"),
            webhook_config_file=None,
            webhook_authorized_seconds=300,
            webhook_unauthorized_seconds=30,
        ),
        audit=model.Audit(
            policy_file=None,
            log_path="-",
            log_maxsize=100,
            log_maxbackup=10,
            log_maxage=0,
            max_body_bytes=65536,
            queue=10000,
            when_full="drop",
        ),
        access_log=model.AccessLog(path="", maxsize=100, maxbackup=10, maxage=0),
        tracing=model.Tracing(otlp_endpoint="", sampling_ratio=0.01),
        grafana_apiserver=model.GrafanaAPIServer(
            proxy_client_cert_file=None,
            proxy_client_key_file=None,
            proxy_client_ca_file=None,
            remote_services_file=None,
            apiservice_ca_bundle_file=None,
            external_names_namespace="default",
            kubectl_client_cert_file=None,
            kubectl_client_key_file=None,
            api_socket=None,
        ),
        egress=model.EgressSettings(forbid_special_addresses="auto", allow=()),
        availability=model.Availability(resync_seconds=30, timeout_seconds=5, attempts=5),
        feature_toggles=model.FeatureToggles(
            enable=(), ensure_kubectl_access=False, with_experimental_apis=False, kubernetes_aggregator=True
        ),
    )
    assert not loaded.settings.development
    assert loaded.settings.requestheader.names() == RequestHeaderNames()


def test_every_default_has_a_comment_and_every_setting_is_there() -> None:
    text = defaults_file().read_text()
    shipped = [(entry.section, entry.key) for entry in ini.parse(text, "defaults.ini") if entry.key]
    assert shipped == [(section.name, field.key) for section in sections() for field in section.fields]
    blocks = [block for block in text.split("\n\n") if re.search(r"^\w+ ?=", block, re.MULTILINE)]
    assert [block for block in blocks if not block.lstrip("[#\n").strip() or "# " not in block] == []


def test_every_setting_has_a_docstring() -> None:
    undocumented = []
    for node in ast.parse(inspect.getsource(model)).body:
        if not isinstance(node, ast.ClassDef) or node.name == "Settings":
            continue
        for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign) and not (
                isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            ):
                undocumented.append(f"{node.name}.{ast.unparse(statement.target)}")
    assert undocumented == []


def test_layers_and_origins() -> None:
    text = "app_mode = development\n[server]\nsecure_port = 1\nmetrics_port = 2 ; two\n[log]\nlevel: DEBUG\n"
    loaded = load_text(text, {"GF_SERVER_SECURE_PORT": " 3 ", "GF_DEFAULT_APP_MODE": "", "PATH": "/bin"})
    assert loaded.settings.development
    assert (loaded.settings.server.secure_port, loaded.settings.server.metrics_port) == (3, 2)
    assert loaded.settings.log.level == "debug"
    origins = {key: str(value.origin) for (_, key), value in loaded.values.items() if not value.origin.is_default}
    assert origins == {
        "app_mode": "custom.ini:1",
        "level": "custom.ini:6",
        "secure_port": "GF_SERVER_SECURE_PORT",
        "metrics_port": "custom.ini:4",
    }
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("section", "key", "expected"),
    [
        pytest.param("DEFAULT", "app_mode", "GF_DEFAULT_APP_MODE", id="default section"),
        pytest.param("grafana-apiserver", "api_socket", "GF_GRAFANA_APISERVER_API_SOCKET", id="dash"),
        pytest.param("auth.basic", "x", "GF_AUTH_BASIC_X", id="dot"),
        pytest.param("feature_toggles", "kubernetesAggregator", "GF_FEATURE_TOGGLES_KUBERNETESAGGREGATOR", id="case"),
    ],
)
def test_env_name(section: str, key: str, expected: str) -> None:
    assert env_name(section, key) == expected


def test_paths_start_at_the_current_directory(tmp_path: Path) -> None:
    loaded = load_text("[paths]\ndata = ./somewhere\n[grafana-apiserver]\napi_socket = /run/api.sock\n")
    assert loaded.settings.paths.data == tmp_path / "somewhere"
    assert loaded.settings.grafana_apiserver.api_socket == Path("/run/api.sock")


@pytest.mark.parametrize(
    ("section", "line", "expected"),
    [
        pytest.param("DEFAULT", "app_mode = test", "'test' is not one of production, development", id="mode"),
        pytest.param("paths", "data =", "a path is needed", id="no path"),
        pytest.param("log", "level = loud", "'loud' is not one of debug, info, warn, warning, error", id="level"),
        pytest.param("server", "secure_port = 65536", "'65536' is not a number from 0 to 65535", id="port too high"),
        pytest.param("server", "secure_port = -1", "'-1' is not a number from 0 to 65535", id="port too low"),
        pytest.param("server", "secure_port = ٣", "'٣' is not a number from 0 to 65535", id="other digits"),
        pytest.param("server", "secure_port =", "'' is not a number from 0 to 65535", id="no port"),
        pytest.param(
            "server", "bind_address = example", "'example' is neither an IP address nor localhost", id="address"
        ),
        pytest.param("server", "alpn = h3", "'h3' is not one of http/1.1, h2", id="protocol"),
        pytest.param("server", "alpn =", "'' is not one of http/1.1, h2", id="no protocol"),
        pytest.param(
            "server", "external_url = http://x", "not a URL such as https://localhost:6443", id="not a secure URL"
        ),
        pytest.param(
            "server", "external_url = https://x:99999", "not a URL such as https://localhost:6443", id="port in URL"
        ),
        pytest.param(
            "server",
            "external_url = https://x/y",
            "a URL of scheme, host and port only, such as https://localhost:6443, is needed",
            id="path in URL",
        ),
        pytest.param(
            "server",
            "external_url = https://me:secret@x",
            "a URL of scheme, host and port only, such as https://localhost:6443, is needed",
            id="password in URL",
        ),
        pytest.param(
            "server",
            "shutdown_grace_seconds = soon",
            "'soon' is not a number of seconds from 0 to 3600",
            id="no seconds",
        ),
        pytest.param(
            "server", "shutdown_delay_seconds = nan", "'nan' is not a number of seconds from 0 to 3600", id="nan"
        ),
        pytest.param(
            "availability", "resync_seconds = 0", "'0' is not a number of seconds from 1 to 3600", id="no pause"
        ),
        pytest.param("requestheader", "uid_headers = X: y", "'X: y' is not the name of an HTTP header", id="header"),
        pytest.param("feature_toggles", "kubernetesAggregator = maybe", "'maybe' is neither true nor false", id="bool"),
    ],
)
def test_wrong_values(section: str, line: str, expected: str) -> None:
    key = line.split("=")[0].strip()
    assert problems(f"[{section}]\n{line}\n") == (f"custom.ini:2: [{section}] {key}: {expected}",)


def test_all_wrong_values_are_reported_at_once_with_their_origin() -> None:
    found = problems("[server]\nsecure_port = x\n", {"GF_LOG_LEVEL": "y", "GF_SERVER_METRICS_PORT": "z"})
    assert found == (
        "GF_LOG_LEVEL: [log] level: 'y' is not one of debug, info, warn, warning, error",
        "custom.ini:2: [server] secure_port: 'x' is not a number from 0 to 65535",
        "GF_SERVER_METRICS_PORT: [server] metrics_port: 'z' is not a number from 0 to 65535",
    )


def test_namespace() -> None:
    (found,) = problems("[grafana-apiserver]\nexternal_names_namespace = A_b\n")
    assert found.startswith("custom.ini:2: [grafana-apiserver] external_names_namespace: 'A_b' is not a namespace: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "[sever]\nsecure_port = 1\n", ["custom.ini:1: unknown section [sever]; did you mean server?"], id="section"
        ),
        pytest.param("[quota]\nx = 1\n", ["custom.ini:1: unknown section [quota]"], id="nothing like it"),
        pytest.param(
            "[server]\nsecure_prot = 1\n",
            ["custom.ini:2: [server] secure_prot: unknown key; did you mean secure_port?"],
            id="key",
        ),
        pytest.param(
            "[feature_toggles]\nkubernetesaggregator = false\n",
            ["custom.ini:2: [feature_toggles] kubernetesaggregator: unknown key; did you mean kubernetesAggregator?"],
            id="case",
        ),
        pytest.param(
            "[server]\ndata = x\n",
            ["custom.ini:2: [server] data: unknown key; there is one in [paths]"],
            id="elsewhere",
        ),
        pytest.param(
            "[log]\nlevel = info\nlevel = error\n",
            ["custom.ini:3: [log] level: was set before at custom.ini:2; this one counts"],
            id="twice",
        ),
        pytest.param(
            "[feature_toggles]\nenable = kubernetesAgregator\n",
            [
                "custom.ini:2: [feature_toggles] enable: unknown toggle kubernetesAgregator; "
                "did you mean kubernetesAggregator?"
            ],
            id="toggle",
        ),
    ],
)
def test_warnings(text: str, expected: list[str]) -> None:
    assert list(load_text(text).warnings) == expected


def test_warning_about_the_environment() -> None:
    warnings = load_text("", {"GF_SERVER_SECURE_PRT": "1", "GFX": "y", "gf_server_secure_port": "2"}).warnings
    assert warnings == (
        "GF_SERVER_SECURE_PRT: unknown setting in the environment; did you mean GF_SERVER_SECURE_PORT?",
    )


@pytest.mark.parametrize(
    ("text", "env", "expected"),
    [
        pytest.param("enable = grafanaAPIServerWithExperimentalAPIs", {}, (False, True, True), id="list"),
        pytest.param(
            "enable = grafanaAPIServerEnsureKubectlAccess grafanaAPIServerWithExperimentalAPIs",
            {},
            (True, True, True),
            id="list with spaces",
        ),
        pytest.param(
            "enable = grafanaAPIServerEnsureKubectlAccess\ngrafanaAPIServerEnsureKubectlAccess = off",
            {},
            (False, False, True),
            id="own name wins",
        ),
        pytest.param("kubernetesAggregator = false", {}, (False, False, False), id="off"),
        pytest.param(
            "grafanaAPIServerEnsureKubectlAccess = false",
            {"GF_FEATURE_TOGGLES_GRAFANAAPISERVERENSUREKUBECTLACCESS": "1"},
            (True, False, True),
            id="environment",
        ),
        pytest.param(
            "",
            {"GF_FEATURE_TOGGLES_ENABLE": "grafanaAPIServerEnsureKubectlAccess,grafanaAPIServerWithExperimentalAPIs"},
            (True, True, True),
            id="list in the environment",
        ),
    ],
)
def test_toggles(text: str, env: dict[str, str], expected: tuple[bool, bool, bool]) -> None:
    toggles = load_text(f"[feature_toggles]\n{text}\n", env).settings.feature_toggles
    assert (toggles.ensure_kubectl_access, toggles.with_experimental_apis, toggles.kubernetes_aggregator) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(None, "No such file or directory", id="missing"),
        pytest.param(b"\xff", "not a text file", id="binary"),
    ],
)
def test_a_custom_ini_that_cannot_be_read(content: bytes | None, expected: str) -> None:
    if content is not None:
        Path("custom.ini").write_bytes(content)
    with pytest.raises(SettingsError, match=f"custom.ini: {expected}"):
        settings.load(Path("custom.ini"), {})
