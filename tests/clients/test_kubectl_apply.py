"""kubectl apply and diff, on the client's and on the server's side, against a local and a proxied kind."""

import json

from tests.clients.matrix import Matrix

FIRST, SECOND = "first.example.com", "second.example.com"
SERVER_SIDE = ("apply", "--server-side")


def test_client_side_apply(matrix: Matrix) -> None:
    labelled = matrix.file(matrix.document("a", labels={"x": "1", "y": "1"}))
    assert matrix.ok("apply", labelled) == matrix.line("a", "created")
    assert matrix.ok("apply", labelled) == matrix.line("a", "unchanged")
    matrix.ok("label", matrix.sample.plural, "a", "other=kept")
    assert matrix.ok("apply", matrix.file(matrix.document("a", SECOND, labels={"x": "2"}))) == matrix.line(
        "a", "configured"
    )
    found = matrix.get("a")
    assert found["metadata"]["labels"] == {"x": "2", "other": "kept"}
    assert matrix.value("a") == SECOND
    told = matrix.ok("apply", "view-last-applied", matrix.sample.plural, "a", "--output=json")
    assert json.loads(told)["metadata"]["labels"] == {"x": "2"}
    matrix.ok("apply", "set-last-applied", matrix.file(matrix.document("a")))
    annotation = "kubectl.kubernetes.io/last-applied-configuration"
    assert FIRST in matrix.get("a")["metadata"]["annotations"][annotation]


def test_apply_of_an_object_made_otherwise(matrix: Matrix) -> None:
    matrix.create("a")
    result = matrix.run("apply", matrix.file(matrix.document("a", SECOND)))
    assert (result.code, result.out) == (0, matrix.line("a", "configured"))
    assert "is missing the kubectl.kubernetes.io/last-applied-configuration annotation" in result.err


def test_prune(matrix: Matrix) -> None:
    documents = [matrix.document(name, labels={"set": "one"}) for name in ("a", "b")]
    matrix.ok("apply", matrix.file(*documents))
    matrix.create("other", labels={"set": "two"})
    allowed = f"--prune-allowlist={matrix.sample.api_version}/{matrix.sample.kind}"
    told = matrix.ok("apply", "--prune", "--selector=set=one", allowed, matrix.file(documents[0]))
    assert told == matrix.line("a", "unchanged") + matrix.line("b", "pruned")
    assert matrix.names() == ["a", "other"]


def test_prune_without_a_list_of_kinds(matrix: Matrix) -> None:
    """kubectl then looks up kinds of Kubernetes' own (Endpoints, Job ...) and ends when a server lacks one, as this one
    does: what was given is applied, nothing is removed. `--prune-allowlist` is the way."""
    documents = [matrix.document(name, labels={"set": "one"}) for name in ("a", "b")]
    matrix.ok("apply", matrix.file(*documents))
    changed = matrix.document("a", SECOND, labels={"set": "one"})
    result = matrix.run("apply", "--prune", "--selector=set=one", matrix.file(changed))
    assert (result.code, result.out) == (1, matrix.line("a", "configured"))
    assert "error retrieving RESTMappings to prune" in result.err
    assert 'no matches for kind "Endpoints" in version "v1"' in result.err
    assert (matrix.value("a"), matrix.names()) == (SECOND, ["a", "b"])


def test_diff(matrix: Matrix) -> None:
    changed = matrix.file(matrix.document("a", SECOND), name="changed.yaml")
    assert "+kind: " in matrix.run("diff", changed).out
    matrix.ok("apply", matrix.file(matrix.document("a")))
    assert matrix.run("diff", matrix.file(matrix.document("a"))).code == 0
    result = matrix.run("diff", changed)
    assert result.code == 1
    removed = [line.split()[-1] for line in result.out.splitlines() if line.startswith("-") and FIRST in line]
    added = [line.split()[-1] for line in result.out.splitlines() if line.startswith("+") and SECOND in line]
    assert (removed[-1], added[-1]) == (FIRST, SECOND)
    assert matrix.value("a") == FIRST


def test_diff_on_the_server(matrix: Matrix) -> None:
    matrix.ok(*SERVER_SIDE, matrix.file(matrix.document("a")))
    assert matrix.run("diff", "--server-side", matrix.file(matrix.document("a"))).code == 0
    result = matrix.run("diff", "--server-side", matrix.file(matrix.document("a", SECOND)))
    assert result.code == 1
    assert SECOND in result.out
    assert matrix.value("a") == FIRST


def _managers(matrix: Matrix, name: str) -> set[tuple[str, str]]:
    entries = matrix.get(name, "--show-managed-fields")["metadata"]["managedFields"]
    return {(entry["manager"], entry["operation"]) for entry in entries}


def test_server_side_apply(matrix: Matrix) -> None:
    applied = matrix.line("a", "serverside-applied")
    assert matrix.ok(*SERVER_SIDE, matrix.file(matrix.document("a", labels={"x": "1", "y": "1"}))) == applied
    version = matrix.get("a")["metadata"]["resourceVersion"]
    assert matrix.ok(*SERVER_SIDE, matrix.file(matrix.document("a", labels={"x": "1", "y": "1"}))) == applied
    assert matrix.get("a")["metadata"]["resourceVersion"] == version
    assert matrix.ok(*SERVER_SIDE, matrix.file(matrix.document("a", labels={"x": "1"}))) == applied
    assert matrix.get("a")["metadata"]["labels"] == {"x": "1"}
    assert _managers(matrix, "a") == {("kubectl", "Apply")}


def test_server_side_conflicts(matrix: Matrix) -> None:
    matrix.ok(*SERVER_SIDE, matrix.file(matrix.document("a")))
    theirs = (*SERVER_SIDE, "--field-manager=other", matrix.file(matrix.document("a", SECOND), name="theirs.yaml"))
    refused = matrix.fails(*theirs)
    path = "".join(f".{part}" for part in matrix.sample.field)
    assert f'Apply failed with 1 conflict: conflict with "kubectl": {path}' in refused
    assert matrix.value("a") == FIRST
    matrix.ok(*theirs, "--force-conflicts")
    assert matrix.value("a") == SECOND
    assert 'conflict with "other"' in matrix.fails(*SERVER_SIDE, matrix.file(matrix.document("a")))
    assert matrix.ok(*SERVER_SIDE, "--dry-run=server", "--force-conflicts", matrix.file(matrix.document("a")))
    assert matrix.value("a") == SECOND


def test_from_client_side_to_server_side(matrix: Matrix) -> None:
    matrix.ok("apply", matrix.file(matrix.document("a", labels={"x": "1", "y": "1"})))
    matrix.ok(*SERVER_SIDE, matrix.file(matrix.document("a", labels={"x": "1"})))
    assert _managers(matrix, "a") == {("kubectl", "Apply"), ("kubectl-last-applied", "Apply")}
    # What the first apply set and the second left out belongs to nobody else: it is gone.
    assert matrix.get("a")["metadata"]["labels"] == {"x": "1"}


def test_server_side_apply_refuses_unknown_fields(matrix: Matrix) -> None:
    document = matrix.document("a") | {"colour": "red"}
    assert "colour" in matrix.fails(*SERVER_SIDE, matrix.file(document))
    assert matrix.names() == []
