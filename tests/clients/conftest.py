"""One pair of real programs for the whole run. Without kubectl these tests fail; they are never skipped."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.matrix import DUMMY, EXTERNAL_NAME, Matrix, SampleKind
from tests.support.kubectl import Kubectl
from tests.support.local_stack import LocalStack

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    started = LocalStack(tmp_path_factory.mktemp("stack"))
    try:
        started.start()
        yield started
        if request.session.testsfailed:
            print(started.logs())  # noqa: T201 - what a failed CI run is understood by
    finally:
        started.stop()


@pytest.fixture(scope="session")
def kubectl(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    if shutil.which("kubectl") is None:
        pytest.fail("kubectl is needed for these tests", pytrace=False)
    return Kubectl(kubeconfig=stack.kubeconfig, home=tmp_path_factory.mktemp("home"))


@pytest.fixture
def namespace() -> str:
    """A namespace that only this test uses."""
    return f"test-{next(_NUMBERS)}"


@pytest.fixture(params=[EXTERNAL_NAME, DUMMY], ids=["local", "proxied"])
def sample(request: pytest.FixtureRequest) -> SampleKind:
    kind: SampleKind = request.param
    return kind


@pytest.fixture
def matrix(kubectl: Kubectl, namespace: str, tmp_path: Path, sample: SampleKind) -> Matrix:
    return Matrix(kubectl, namespace, tmp_path, sample)
