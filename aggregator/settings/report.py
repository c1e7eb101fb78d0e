"""What `aggregator check-config` says: the settings in effect and where each comes from."""

import re
from collections.abc import Mapping
from pathlib import Path

from aggregator import remote_services
from aggregator.settings import ini
from aggregator.settings.declared import Values
from aggregator.settings.load import Loaded, SettingsError, load

MASK = "*********"
_SECRET = re.compile(r"password|passphrase|secret|token", re.IGNORECASE)


def check_config(path: Path | None, env: Mapping[str, str]) -> tuple[int, str]:
    """Exit status and text: 0 with the settings in effect, after any warnings; 2 with one line per problem.

    Everything that can be known without starting is looked at: values, files, key pairs, the remote services.
    """
    try:
        loaded = load(path, env)
        _check_remote_services(loaded)
    except (SettingsError, remote_services.RemoteServicesError) as error:
        return 2, f"{error}\n"
    fault = _access_fault(loaded)
    if fault:
        return 2, f"{fault}\n"
    warnings = "".join(f"; warning: {warning}\n" for warning in loaded.warnings)
    return 0, f"{warnings}{render(loaded.values)}"


def _check_remote_services(loaded: Loaded) -> None:
    file = loaded.settings.grafana_apiserver.remote_services_file
    if file is not None:
        remote_services.load(file)


def _access_fault(loaded: Loaded) -> str:
    # Imported here: it needs a good part of the server, which the other commands start faster without.
    from aggregator import access
    from aggregator.observe import build
    from apiserver.auth.yaml_fields import FileError

    try:
        access.check(loaded.settings)
        build.check(loaded.settings)
    except (access.AccessError, FileError) as error:
        return str(error)
    return ""


def render(values: Values) -> str:
    """The values as an ini file, each with its origin as a comment; secrets are masked."""
    lines: list[str] = []
    section = ""
    for value in values.values():
        if value.section != section:
            lines += ["", f"[{value.section}]"] if section else [f"[{value.section}]"]
            section = value.section
        secret = value.text and _SECRET.search(value.key) and not value.key.endswith("_file")
        text = MASK if secret else _quoted(value.text)
        lines.append(f"{value.key} = {text}".rstrip().ljust(48) + f"  ; {value.origin}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Text that the ini format would not read back as it is goes into quotes."""
    if not text or (text[0] not in "\"'`" and not re.search(r"[#;]", text)):
        return text
    quote = next((mark for mark in ini.QUOTES if mark not in text and text[-1] != mark[0]), ini.QUOTES[0])
    return f"{quote}{text}{quote}"
