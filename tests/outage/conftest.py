"""Real programs with twenty aggregated servers behind them, which can be broken one by one."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import backends
from tests.support.backends import Backends
from tests.support.kubectl import Kubectl
from tests.support.local_stack import LocalStack
from tests.support.registration import SERVER_NAME, availability, register
from tests.support.waiting import wait_until
from tests.unit.aggregator.api_kit import Certificates, make_certificates

SERVERS = 20
GROUPS = [f"b{number}.example" for number in range(SERVERS)]
ColdKubectl = Callable[[], Kubectl]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("backends"), SERVER_NAME)


@pytest.fixture(scope="session")
def servers(certificates: Certificates) -> Iterator[Backends]:
    with backends.running(certificates.server_file) as found:
        yield found


@pytest.fixture(scope="session")
def stack(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    certificates: Certificates,
    servers: Backends,
) -> Iterator[LocalStack]:
    if shutil.which("kubectl") is None:
        pytest.fail("kubectl is needed for these tests", pytrace=False)
    started = LocalStack(tmp_path_factory.mktemp("stack"))
    try:
        started.start()
        register(started.request, {group: servers.add(group) for group in GROUPS}, certificates.ca)
        wait_until(lambda: set(availability(started.request, GROUPS).values()) == {"True"}, seconds=20)
        yield started
        if request.session.testsfailed:
            print(started.logs())  # noqa: T201 - what a failed CI run is understood by
    finally:
        started.stop()


@pytest.fixture
def cold(stack: LocalStack, tmp_path: Path) -> ColdKubectl:
    """A kubectl that has cached nothing, a new one at each call."""
    homes = iter(range(1_000_000))

    def fresh() -> Kubectl:
        home = tmp_path / f"home{next(homes)}"
        home.mkdir()
        return Kubectl(kubeconfig=stack.kubeconfig, home=home)

    return fresh
