"""kubectl create, replace, patch, edit, label, annotate and delete, against a local and a proxied kind."""

import json
import shlex

import pytest

from tests.clients.matrix import Matrix

SECOND = "second.example.com"


def test_create(matrix: Matrix) -> None:
    document = matrix.document("a")
    assert matrix.ok("create", matrix.file(document)) == matrix.line("a", "created")
    refused = matrix.fails("create", matrix.file(document))
    assert "(AlreadyExists): error when creating" in refused
    assert f'{matrix.sample.resource} "a" already exists' in refused
    generated = matrix.document("", generateName="made-")
    del generated["metadata"]["name"]
    assert matrix.ok("create", matrix.file(generated), "--output=name").startswith(f"{matrix.sample.printed}/made-")
    matrix.ok("create", matrix.file(matrix.document("saved")), "--save-config")
    assert "kubectl.kubernetes.io/last-applied-configuration" in matrix.get("saved")["metadata"]["annotations"]


def test_dry_runs_write_nothing(matrix: Matrix) -> None:
    flag = matrix.file(matrix.document("a"))
    planned = json.loads(matrix.ok("create", flag, "--dry-run=server", "--output=json"))
    assert planned["metadata"]["uid"]
    assert "resourceVersion" not in planned["metadata"]
    matrix.ok("create", flag, "--dry-run=client")
    assert matrix.names() == []
    matrix.create("a")
    before = matrix.get("a")
    done = [
        matrix.ok("label", matrix.sample.plural, "a", "x=y", "--dry-run=server"),
        matrix.ok("replace", matrix.file(matrix.document("a", SECOND)), "--dry-run=server"),
        matrix.ok("apply", matrix.file(matrix.document("a", SECOND)), "--dry-run=server"),
        matrix.ok("delete", matrix.sample.plural, "a", "--dry-run=server"),
    ]
    assert all("(server dry run)" in line for line in done)
    matrix.ok("patch", matrix.sample.plural, "a", "--type=merge", _merge(matrix, SECOND), "--dry-run=server")
    assert matrix.get("a") == before


def _merge(matrix: Matrix, text: object) -> str:
    return f"--patch={json.dumps(matrix.sample.text(text))}"


@pytest.mark.parametrize(
    ("validate", "code", "warned"), [("strict", 1, False), ("warn", 0, True), ("ignore", 0, False)], ids=str
)
def test_validation_modes(matrix: Matrix, validate: str, code: int, warned: bool) -> None:
    document = matrix.document("a") | {"colour": "red", "metadata": {"name": "a", "nmae": "b"}}
    result = matrix.run("create", f"--validate={validate}", matrix.file(document))
    assert result.code == code
    if validate == "strict":
        kind = f'{matrix.sample.kind} in version "{matrix.sample.version}" cannot be handled as a {matrix.sample.kind}'
        assert f'{kind}: strict decoding error: unknown field "colour", unknown field "metadata.nmae"' in result.err
    assert ('Warning: unknown field "colour"\nWarning: unknown field "metadata.nmae"\n' in result.err) is warned


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"apiVersion": "nobody.example.com/v1"}, "no matches for kind"),
        ({"metadata": {"name": "Not_A_Name"}}, 'metadata.name: Invalid value: "Not_A_Name"'),
        ({"metadata": {"name": "a", "labels": {"x": "-"}}}, 'metadata.labels: Invalid value: "-"'),
        ({"metadata": {}}, "metadata.name: Required value: name or generateName is required"),
        ({"spec": 5}, "cannot unmarshal number into Go struct field"),
    ],
    ids=["kind", "name", "label", "no-name", "type"],
)
def test_refused_objects(matrix: Matrix, change: dict[str, object], message: str) -> None:
    assert message in matrix.fails("create", matrix.file({**matrix.document("a"), **change}))
    assert matrix.names() == []


def test_replace(matrix: Matrix) -> None:
    matrix.create("a")
    stale = matrix.get("a")
    replaced = matrix.line("a", "replaced")
    assert matrix.ok("replace", matrix.file(matrix.document("a", SECOND))) == replaced
    assert matrix.value("a") == SECOND
    conflict = matrix.fails("replace", matrix.file(stale))
    assert "(Conflict)" in conflict
    assert "the object has been modified; please apply your changes to the latest version and try again" in conflict
    uid = matrix.get("a")["metadata"]["uid"]
    assert matrix.ok("replace", "--force", matrix.file(matrix.document("a"))).endswith(replaced)
    assert matrix.get("a")["metadata"]["uid"] != uid
    assert "(NotFound)" in matrix.fails("replace", matrix.file(matrix.document("nobody")))


@pytest.mark.parametrize("patch_type", ["merge", "json", "strategic"])
def test_patch(matrix: Matrix, patch_type: str) -> None:
    matrix.create("a")
    replace = [{"op": "replace", "path": matrix.sample.pointer, "value": SECOND}]
    patch = replace if patch_type == "json" else matrix.sample.text(SECOND)
    arguments = ("patch", matrix.sample.plural, "a", f"--type={patch_type}", f"--patch={json.dumps(patch)}")
    before = matrix.get("a")["metadata"]
    assert matrix.ok(*arguments) == matrix.line("a", "patched")
    assert matrix.value("a") == SECOND
    patched = matrix.get("a", "--show-managed-fields")["metadata"]
    assert patched["generation"] == before["generation"] + 1
    assert {"manager": "kubectl-patch", "operation": "Update"}.items() <= patched["managedFields"][-1].items()
    assert matrix.ok(*arguments) == matrix.line("a", "patched (no change)")
    assert matrix.get("a")["metadata"]["resourceVersion"] == patched["resourceVersion"]


@pytest.mark.parametrize(
    ("patch_type", "patch", "message"),
    [
        (
            "json",
            '[{"op":"test","path":"/kind","value":"x"}]',
            "The request is invalid: the server rejected our request",
        ),
        ("json", '[{"op":"remove","path":"/nothing"}]', "The request is invalid: the server rejected our request"),
        ("merge", '{"metadata":{"name":"b"}}', "the name of the object (b) does not match the name on the URL (a)"),
        ("merge", '{"metadata":{"resourceVersion":"1"}}', "Operation cannot be fulfilled on"),
        ("merge", '{"metadata":{"uid":"x"}}', "Precondition failed: UID in precondition: x, UID in object meta: "),
        ("merge", '{"spec":5}', "patch: Invalid value: "),
    ],
    ids=["test", "missing", "rename", "stale", "uid", "type"],
)
def test_refused_patches(matrix: Matrix, patch_type: str, patch: str, message: str) -> None:
    matrix.create("a")
    before = matrix.get("a")
    refused = matrix.fails("patch", matrix.sample.plural, "a", f"--type={patch_type}", f"--patch={patch}")
    assert message in refused
    assert matrix.get("a") == before


def test_patch_warns_of_unknown_fields(matrix: Matrix) -> None:
    matrix.create("a")
    result = matrix.run("patch", matrix.sample.plural, "a", "--type=merge", '--patch={"colour":"red"}')
    assert (result.code, result.out) == (0, matrix.line("a", "patched (no change)"))
    assert result.err == 'Warning: unknown field "colour"\n'


def test_edit(matrix: Matrix) -> None:
    matrix.create("a")
    editing = matrix.editing(f"sed -i s/first/{shlex.quote('edited')}/")
    assert editing.ok("edit", matrix.sample.plural, "a") == matrix.line("a", "edited")
    assert matrix.value("a") == "edited.example.com"
    untouched = matrix.editing("true").run("edit", matrix.sample.plural, "a")
    assert untouched.err == "Edit cancelled, no changes made.\n"
    broken = matrix.editing("sed -i s/^kind:.*/nonsense:/").run("edit", matrix.sample.plural, "a")
    assert broken.code == 1
    assert matrix.value("a") == "edited.example.com"


def test_labels(matrix: Matrix) -> None:
    matrix.create("a")
    matrix.create("b", labels={"tier": "back"})
    plural = matrix.sample.plural
    assert matrix.ok("label", plural, "a", "tier=front", "app=one") == matrix.line("a", "labeled")
    assert "'tier' already has a value (front)" in matrix.fails("label", plural, "a", "tier=back")
    assert matrix.ok("label", plural, "a", "tier=back", "--overwrite") == matrix.line("a", "labeled")
    assert matrix.ok("label", plural, "a", "app-") == matrix.line("a", "unlabeled")
    assert matrix.ok("label", plural, "--list", "a") == "tier=back\n"
    matrix.ok("label", plural, "--selector=tier=back", "seen=yes")
    assert matrix.names("--selector=seen=yes") == ["a", "b"]
    matrix.ok("label", plural, "--all", "seen-")
    assert matrix.names("--selector=seen") == []


def test_annotations(matrix: Matrix) -> None:
    matrix.create("a")
    plural, version = matrix.sample.plural, matrix.get("a")["metadata"]["resourceVersion"]
    current = f"--resource-version={version}"
    assert matrix.ok("annotate", plural, "a", "note=two words", current) == matrix.line("a", "annotated")
    assert matrix.get("a")["metadata"]["annotations"] == {"note": "two words"}
    assert "(Conflict)" in matrix.fails("annotate", plural, "a", "note=other", "--overwrite", current)
    assert "name part must consist of alphanumeric characters" in matrix.fails("annotate", plural, "a", "bad key=1")
    matrix.ok("annotate", plural, "a", "note-")
    assert "annotations" not in matrix.get("a")["metadata"]


def _single(matrix: Matrix, document: dict[str, object]) -> str:
    """A file for `--raw`, whose content is sent as it is."""
    path = matrix.directory / "raw.json"
    path.write_text(json.dumps(document))
    return f"--filename={path}"


def test_raw_requests(matrix: Matrix) -> None:
    collection, item = matrix.sample.path(matrix.namespace), matrix.sample.path(matrix.namespace, "a")
    made = json.loads(matrix.ok("create", f"--raw={collection}", _single(matrix, matrix.document("a"))))
    assert json.loads(matrix.ok("get", f"--raw={item}")) == made
    changed = json.loads(matrix.ok("replace", f"--raw={item}", _single(matrix, matrix.document("a", SECOND))))
    assert changed["metadata"]["generation"] == 2
    gone = json.loads(matrix.ok("delete", f"--raw={item}"))
    assert (gone["status"], gone["details"]["uid"]) == ("Success", made["metadata"]["uid"])
    assert "(NotFound)" in matrix.fails("delete", f"--raw={item}")


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--cascade=background"],
        ["--cascade=foreground"],
        ["--cascade=orphan"],
        ["--now"],
        ["--wait=false"],
        ["--force", "--grace-period=0"],
    ],
    ids=lambda flags: " ".join(flags) or "plain",
)
def test_delete(matrix: Matrix, flags: list[str]) -> None:
    matrix.create("a")
    done = "force deleted" if "--force" in flags else "deleted"
    assert matrix.ok("delete", matrix.sample.plural, "a", *flags) == f'{matrix.sample.printed} "a" {done}\n'
    assert matrix.names() == []


def test_delete_of_several(matrix: Matrix) -> None:
    for name in ("a", "b", "c", "d"):
        matrix.create(name, labels={"odd": str(name in "ac").lower()})
    matrix.ok("delete", matrix.sample.plural, "--selector=odd=true")
    assert matrix.names() == ["b", "d"]
    matrix.ok("delete", matrix.sample.plural, "--field-selector=metadata.name=b")
    matrix.ok("delete", matrix.file(matrix.document("d")))
    assert matrix.names() == []
    assert "(NotFound)" in matrix.fails("delete", matrix.sample.plural, "a")
    assert matrix.ok("delete", matrix.sample.plural, "a", "--ignore-not-found") == ""
    assert matrix.ok("delete", matrix.sample.plural, "--all") == "No resources found\n"


def test_finalizers_hold_an_object(matrix: Matrix) -> None:
    matrix.create("a", finalizers=["example.com/hold"])
    plural = matrix.sample.plural
    assert "timed out waiting for the condition" in matrix.fails("delete", plural, "a", "--timeout=300ms")
    held = matrix.get("a")["metadata"]
    assert (held["deletionGracePeriodSeconds"], held["generation"]) == (0, 2)
    matrix.ok("delete", plural, "a", "--wait=false")
    assert matrix.get("a")["metadata"] == held
    assert "object is being deleted: " in matrix.fails("create", matrix.file(matrix.document("a")))
    more = '--patch={"metadata":{"finalizers":["example.com/hold","example.com/more"]}}'
    assert "no new finalizers can be added" in matrix.fails("patch", plural, "a", "--type=merge", more)
    with matrix.kubectl.following("delete", plural, "a", f"--namespace={matrix.namespace}", "-v=6") as lines:
        lines.next_with("watch=true", seconds=10)
        matrix.ok("patch", plural, "a", "--type=json", '--patch=[{"op":"remove","path":"/metadata/finalizers"}]')
    assert matrix.names() == []
