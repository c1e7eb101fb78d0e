"""kubectl get, describe, wait and watch, against a local and a proxied kind."""

import json

import pytest

from tests.clients.matrix import Matrix


@pytest.fixture
def three(matrix: Matrix) -> Matrix:
    """Objects a, b, c whose order by text is b, c, a."""
    documents = [
        matrix.document("a", "z.example.com", labels={"tier": "front", "app": "one"}),
        matrix.document("b", "x.example.com", labels={"tier": "back"}),
        matrix.document("c", "y.example.com", labels={"tier": "back", "app": "two"}),
    ]
    matrix.ok("create", matrix.file(*documents))
    return matrix


def test_tables(three: Matrix) -> None:
    plural = three.sample.plural
    header, *rows = [line.split() for line in three.ok("get", plural).splitlines()]
    assert header == ["NAME", three.sample.column, "AGE"]
    assert [row[:2] for row in rows] == [["a", "z.example.com"], ["b", "x.example.com"], ["c", "y.example.com"]]
    wide = three.ok("get", plural, "a", "--output=wide", "--show-labels", "--label-columns=tier").splitlines()
    assert wide[0].split()[-2:] == ["TIER", "LABELS"]
    assert wide[1].split()[-2:] == ["front", "app=one,tier=front"]
    assert three.ok("get", plural, "--no-headers").splitlines()[0].split()[0] == "a"
    everywhere = [row[:2] for row in three.rows("get", plural, "--all-namespaces")]
    assert [three.namespace, "a"] in everywhere


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--output=name"], "{printed}/a"),
        (["--output=jsonpath={.metadata.name}/{.kind}"], "a/{kind}"),
        (["--output=go-template={{.metadata.name}}"], "a"),
        (["--output=template={{.metadata.namespace}}"], "{namespace}"),
        (["--output=jsonpath-as-json={.metadata.name}"], '[\n    "a"\n]'),
        (["--output=custom-columns=N:.metadata.name,K:.kind", "--no-headers"], "a     {kind}"),
    ],
    ids=["name", "jsonpath", "go-template", "template", "jsonpath-as-json", "custom-columns"],
)
def test_output_of_one(matrix: Matrix, arguments: list[str], expected: str) -> None:
    matrix.create("a")
    sample = matrix.sample
    wanted = (
        expected.replace("{printed}", sample.printed)
        .replace("{kind}", sample.kind)
        .replace("{namespace}", matrix.namespace)
    )
    assert " ".join(matrix.ok("get", sample.plural, "a", *arguments).split()) == " ".join(wanted.split())


@pytest.mark.parametrize(
    ("output", "template", "expected"),
    [
        (
            "custom-columns-file",
            "NAME          HOLDER\n.metadata.name .metadata.labels.tier\n",
            "NAME HOLDER a front b back c back",
        ),
        ("jsonpath-file", "{range .items[*]}{.metadata.name}={.metadata.labels.tier} {end}", "a=front b=back c=back"),
        ("go-template-file", "{{range .items}}{{.kind}}/{{.metadata.name}} {{end}}", "{kind}/a {kind}/b {kind}/c"),
        ("templatefile", "{{len .items}}", "3"),
    ],
    ids=["custom-columns-file", "jsonpath-file", "go-template-file", "templatefile"],
)
def test_output_by_a_file(three: Matrix, output: str, template: str, expected: str) -> None:
    file = three.directory / "template"
    file.write_text(template)
    printed = three.ok("get", three.sample.plural, f"--output={output}={file}")
    assert " ".join(printed.split()) == expected.replace("{kind}", three.sample.kind)


def test_output_as_documents(three: Matrix) -> None:
    plural = three.sample.plural
    found = json.loads(three.ok("get", plural, "--output=json"))
    assert (found["kind"], [item["metadata"]["name"] for item in found["items"]]) == ("List", ["a", "b", "c"])
    item = three.get("a")
    assert item["apiVersion"] == three.sample.api_version
    assert "managedFields" not in item["metadata"]
    assert three.get("a", "--show-managed-fields")["metadata"]["managedFields"][0]["manager"] == "kubectl-create"
    assert f"apiVersion: {three.sample.api_version}\nkind: {three.sample.kind}" in three.ok(
        "get", plural, "a", "--output=yaml"
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--selector=tier=back"], ["b", "c"]),
        (["--selector=tier==back,app"], ["c"]),
        (["--selector=tier in (front, back),!app"], ["b"]),
        (["--selector=app notin (one),tier!=front"], ["b", "c"]),
        (["--field-selector=metadata.name=b"], ["b"]),
        (["--field-selector=metadata.name!=b,metadata.namespace!=elsewhere"], ["a", "c"]),
        (["--chunk-size=1"], ["a", "b", "c"]),
        (["--chunk-size=2", "--selector=tier"], ["a", "b", "c"]),
        (["--chunk-size=0"], ["a", "b", "c"]),
    ],
    ids=["equal", "exists", "in-not-exists", "notin", "by-name", "by-not-name", "pages", "pages-selected", "one-page"],
)
def test_selection(three: Matrix, arguments: list[str], expected: list[str]) -> None:
    assert three.names(*arguments) == expected
    assert [row[0] for row in three.rows("get", three.sample.plural, *arguments)] == expected


def test_selection_by_name_in_every_namespace(three: Matrix) -> None:
    found = three.kubectl.rows("get", three.sample.plural, "--all-namespaces", "--field-selector=metadata.name=b")
    assert [three.namespace, "b"] in [row[:2] for row in found]


def test_sort_by(three: Matrix) -> None:
    by_text = three.rows("get", three.sample.plural, f"--sort-by={three.sample.json_path}")
    assert [row[0] for row in by_text] == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--selector=a=b=c"], "found '=', expected: ',' or 'end of string'"),
        (["--field-selector=spec.nothing=1"], '"spec.nothing" is not a known field selector: only "metadata.name"'),
    ],
    ids=["label", "field"],
)
def test_wrong_selectors(matrix: Matrix, arguments: list[str], message: str) -> None:
    assert message in matrix.fails("get", matrix.sample.plural, *arguments)


def test_missing_object(matrix: Matrix) -> None:
    missing = matrix.kubectl("get", matrix.sample.plural, "nobody", "--namespace=default")
    assert missing.err == f'Error from server (NotFound): {matrix.sample.resource} "nobody" not found\n'
    assert matrix.ok("get", matrix.sample.plural, "nobody", "--ignore-not-found") == ""
    assert matrix.run("get", matrix.sample.plural).err == f"No resources found in {matrix.namespace} namespace.\n"


def test_describe(three: Matrix) -> None:
    told = three.ok("describe", three.sample.plural, "a")
    for line in ("Name:         a", f"Namespace:    {three.namespace}", f"Kind:         {three.sample.kind}"):
        assert line in told
    assert "Events:" in told
    assert three.ok("describe", three.sample.plural, "--selector=tier=back").count("Name:         ") == 2


def test_watch_follows_changes(three: Matrix) -> None:
    arguments = ("get", three.sample.plural, f"--namespace={three.namespace}", "--watch")
    with three.kubectl.following(*arguments) as lines:
        for name in ("a", "b", "c"):
            lines.next_with(name, seconds=10)
        three.create("d", "d.example.com")
        lines.next_with("d.example.com", seconds=5)
        three.ok("delete", three.sample.plural, "d")
        lines.next_with("d.example.com", seconds=5)


def test_watch_of_one_object(three: Matrix) -> None:
    arguments = ("get", three.sample.plural, "a", f"--namespace={three.namespace}", "--watch", "--output-watch-events")
    with three.kubectl.following(*arguments) as lines:
        assert lines.next_with("ADDED", seconds=10).split()[:2] == ["ADDED", "a"]
        three.ok("label", three.sample.plural, "b", "seen=no")
        three.ok("label", three.sample.plural, "a", "seen=yes")
        assert lines.next_with("MODIFIED", seconds=5).split()[:2] == ["MODIFIED", "a"]
        three.ok("delete", three.sample.plural, "a")
        lines.next_with("DELETED", seconds=5)


def test_watch_only_with_a_selector(three: Matrix) -> None:
    arguments = ("get", three.sample.plural, f"--namespace={three.namespace}", "-v=6")
    with three.kubectl.following(*arguments, "--watch-only", "--selector=tier=back", "--output-watch-events") as lines:
        lines.next_with("watch=true", seconds=10)
        three.ok("label", three.sample.plural, "a", "tier=back", "--overwrite")
        assert lines.next_with("ADDED", seconds=5).split()[:2] == ["ADDED", "a"]
        three.ok("label", three.sample.plural, "a", "tier=front", "--overwrite")
        assert lines.next_with("DELETED", seconds=5).split()[:2] == ["DELETED", "a"]


def test_wait(matrix: Matrix) -> None:
    matrix.create("a")
    target = f"{matrix.sample.plural}/a"
    met = matrix.line("a", "condition met")
    path = matrix.sample.json_path
    assert matrix.ok("wait", target, f"--for=jsonpath={path}=first.example.com", "--timeout=5s") == met
    assert matrix.ok("wait", target, "--for=create", "--timeout=5s") == met
    refused = matrix.fails("wait", target, f"--for=jsonpath={path}=other", "--timeout=300ms")
    assert refused == f"error: timed out waiting for the condition on {target}\n"


def test_wait_for_changes_to_come(matrix: Matrix) -> None:
    matrix.create("a")
    target, where = f"{matrix.sample.plural}/a", f"--namespace={matrix.namespace}"
    changed = f"--for=jsonpath={matrix.sample.json_path}=second.example.com"
    with matrix.kubectl.following("wait", target, where, changed, "--timeout=20s", "-v=6") as lines:
        lines.next_with("watch=true", seconds=10)
        matrix.ok("patch", target, "--type=merge", f"--patch={json.dumps(matrix.sample.text('second.example.com'))}")
        lines.next_with("condition met", seconds=5)
    with matrix.kubectl.following("wait", target, where, "--for=delete", "--timeout=20s", "-v=6") as lines:
        lines.next_with("watch=true", seconds=10)
        matrix.ok("delete", target)
        lines.next_with("condition met", seconds=5)
    with matrix.kubectl.following("wait", target, where, "--for=create", "--timeout=20s", "-v=6") as lines:
        lines.next_with(" 404 ", seconds=10)
        matrix.create("a")
        lines.next_with("condition met", seconds=5)
