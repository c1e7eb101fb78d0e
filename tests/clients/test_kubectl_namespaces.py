"""kubectl and namespaces, which appear with the objects in them."""

from pathlib import Path

import pytest

from tests.clients.matrix import EXTERNAL_NAME, Matrix
from tests.support.kubectl import Kubectl


@pytest.fixture
def local(kubectl: Kubectl, namespace: str, tmp_path: Path) -> Matrix:
    return Matrix(kubectl, namespace, tmp_path, EXTERNAL_NAME)


def test_they_are_listed_while_they_hold_objects(local: Matrix) -> None:
    header, *rows = [line.split() for line in local.ok("get", "ns").splitlines()]
    assert header == ["NAME", "STATUS", "AGE"]
    assert {"default", "kube-system"} <= {row[0] for row in rows}
    with local.kubectl.following("get", "ns", "--watch-only", "--output=name") as lines:
        # The line that was printed last says that the watch is open.
        local.ok("create", local.file(local.document("a")))
        lines.next_with(f"namespace/{local.namespace}", seconds=10)
    assert local.ok("get", "ns", local.namespace, "--output=jsonpath={.status.phase}") == "Active"
    assert f"Name:         {local.namespace}" in local.ok("describe", "ns", local.namespace)
    local.ok("delete", "externalname", "a")
    local.ok("wait", f"ns/{local.namespace}", "--for=delete", "--timeout=10s")


def test_what_is_missing_is_named(matrix: Matrix) -> None:
    missing = f'Error from server (NotFound): {matrix.sample.resource} "missing" not found\n'
    assert matrix.fails("get", matrix.sample.plural, "missing") == missing
    matrix.create("a")
    assert matrix.fails("get", matrix.sample.plural, "missing") == missing


def test_they_cannot_be_written(local: Matrix) -> None:
    writes = {
        "create": ("create", "ns", "other"),
        "delete": ("delete", "ns", "default"),
        "patch": ("label", "ns", "default", "a=b"),
    }
    for verb, arguments in writes.items():
        refused = f'Error from server (MethodNotAllowed): {verb} is not supported on resources of kind "namespaces"\n'
        assert local.fails(*arguments).endswith(refused), arguments
