"""What the tests of the aggregator share."""

from pathlib import Path

import pytest

from tests.unit.aggregator.proxy_kit import PKI


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    """A PKI of each module's own; those that need more in it have a fixture of that name themselves."""
    return PKI.make(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def in_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of files that are named relative to where the program starts."""
    monkeypatch.chdir(tmp_path)
