import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator import settings
from aggregator.settings import ini, report
from aggregator.settings.declared import Origin, Value

pytestmark = pytest.mark.usefixtures("in_empty_directory")


def test_check_config_of_good_settings() -> None:
    Path("custom.ini").write_text("[server]\nsecure_port = 7443\nsecure = 1\n")
    status, text = settings.check_config(Path("custom.ini"), {"GF_LOG_FORMAT": "json"})
    lines = [re.sub(" +", " ", line) for line in text.splitlines()]
    assert status == 0
    assert lines[0] == "; warning: custom.ini:3: [server] secure: unknown key; did you mean secure_port?"
    assert lines[1:4] == ["[DEFAULT]", "app_mode = production ; default", ""]
    assert "secure_port = 7443 ; custom.ini:2" in lines
    assert "format = json ; GF_LOG_FORMAT" in lines


def test_check_config_of_wrong_settings() -> None:
    Path("services.yaml").write_text("- group: x\n")
    env = {"GF_GRAFANA_APISERVER_REMOTE_SERVICES_FILE": "services.yaml"}
    status, text = settings.check_config(None, env)
    assert (status, text) == (2, f"{Path.cwd()}/services.yaml:1: item 1: version: is missing\n")
    assert settings.check_config(None, {"GF_LOG_LEVEL": "x"}) == (
        2,
        "GF_LOG_LEVEL: [log] level: 'x' is not one of debug, info, warn, warning, error\n",
    )


def test_check_config_masks_secrets() -> None:
    values = {("s", key): Value("s", key, "hush", Origin("f:1")) for key in ("admin_password", "api_token", "name")}
    text = report.render(values)
    assert text.count("hush") == 1
    assert "admin_password = *********" in text


@given(st.lists(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])).map(str.strip), max_size=3))
def test_what_check_config_prints_reads_back(texts: list[str]) -> None:
    texts = [text for text in texts if not ('"""' in text or ({"'", '"', "`"} <= set(text)))]
    values = {("s", f"k{i}"): Value("s", f"k{i}", text, Origin("f:1")) for i, text in enumerate(texts)}
    entries = [entry for entry in ini.parse(report.render(values), "f") if entry.key]
    assert [(entry.key, entry.value) for entry in entries] == [(f"k{i}", text) for i, text in enumerate(texts)]
