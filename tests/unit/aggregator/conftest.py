"""What the tests of the aggregator share."""

import pytest

from tests.unit.aggregator.proxy_kit import PKI


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    """A PKI of each module's own; those that need more in it have a fixture of that name themselves."""
    return PKI.make(tmp_path_factory.mktemp("pki"))
