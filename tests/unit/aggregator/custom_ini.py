"""Loads settings from the text of a custom.ini in the current directory."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from aggregator import settings
from aggregator.settings import SettingsError


def load_text(text: str, env: Mapping[str, str] | None = None) -> settings.Loaded:
    path = Path("custom.ini")
    path.write_text(text)
    return settings.load(path, env or {})


def problems(text: str, env: Mapping[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load_text(text, env)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems
