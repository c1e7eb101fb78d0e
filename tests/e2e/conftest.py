"""One compose stack for the whole run. Without Docker or kubectl these tests fail; they are never skipped."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import COMPOSE_VARIABLES, Stack
from tests.support.kubectl import Kubectl


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    for program in ("docker", "kubectl", "git"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is needed for the end-to-end tests", pytrace=False)
    with pytest.MonkeyPatch.context() as patch:
        for name in COMPOSE_VARIABLES:
            patch.delenv(name, raising=False)
        started = Stack(tmp_path_factory.mktemp("stack"))
        try:
            started.start()
            yield started
            if request.session.testsfailed:
                print(started.logs(tail=200))  # noqa: T201 - what a failed CI run is understood by
        finally:
            started.down()
        assert started.leftovers() == []


@pytest.fixture(scope="session")
def kubectl(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return Kubectl(kubeconfig=stack.kubeconfig, home=tmp_path_factory.mktemp("home"))


@pytest.fixture
def fresh_kubectl(stack: Stack, tmp_path: Path) -> Kubectl:
    """A kubectl that has discovered nothing yet."""
    return Kubectl(kubeconfig=stack.kubeconfig, home=tmp_path)
