"""What the kubectl matrix runs over: kinds of both servers, each with a single text in its spec."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.kubectl import Kubectl, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleKind:
    """A namespaced kind and where its text is."""

    kind: str
    plural: str
    group: str
    version: str
    field: tuple[str, ...]
    column: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"

    @property
    def printed(self) -> str:
        """How kubectl names objects of this kind."""
        return f"{self.kind.lower()}.{self.group}"

    @property
    def resource(self) -> str:
        """How the server names it in errors."""
        return f"{self.plural}.{self.group}"

    @property
    def json_path(self) -> str:
        return "{." + ".".join(self.field) + "}"

    @property
    def pointer(self) -> str:
        return "".join(f"/{part}" for part in self.field)

    def text(self, value: Any) -> dict[str, Any]:
        """The part of an object that holds the text."""
        for part in reversed(self.field):
            value = {part: value}
        content: dict[str, Any] = value
        return content

    def path(self, namespace: str, name: str = "") -> str:
        collection = f"/apis/{self.api_version}/namespaces/{namespace}/{self.plural}"
        return f"{collection}/{name}" if name else collection


@dataclass(frozen=True, slots=True, kw_only=True)
class EditingKubectl(Kubectl):
    """A kubectl with an editor: a shell command that changes the file it is given."""

    editor: str

    def environment(self) -> dict[str, str]:
        return Kubectl.environment(self) | {"KUBE_EDITOR": self.editor}


EXTERNAL_NAME = SampleKind(
    kind="ExternalName",
    plural="externalnames",
    group="service.grafana.app",
    version="v0alpha1",
    field=("spec", "host"),
    column="HOST",
)
"""Served by the aggregator itself."""

DUMMY = SampleKind(
    kind="DummyResource",
    plural="dummy",
    group="example.grafana.app",
    version="v0alpha1",
    field=("spec",),
    column="SPEC",
)
"""Served by the example API server behind the aggregator."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """kubectl in one namespace with one kind."""

    kubectl: Kubectl
    namespace: str
    directory: Path
    sample: SampleKind

    def editing(self, editor: str) -> "Matrix":
        """The same with an editor."""
        kubectl = EditingKubectl(kubeconfig=self.kubectl.kubeconfig, home=self.kubectl.home, editor=editor)
        return replace(self, kubectl=kubectl)

    def document(self, name: str, text: str = "first.example.com", **metadata: Any) -> dict[str, Any]:
        return {
            "apiVersion": self.sample.api_version,
            "kind": self.sample.kind,
            "metadata": {"name": name, "namespace": self.namespace, **metadata},
            **self.sample.text(text),
        }

    def file(self, *documents: Mapping[str, Any], name: str = "objects.yaml") -> str:
        """The `--filename` flag for a file of documents."""
        path = self.directory / name
        path.write_text("".join(f"---\n{json.dumps(document)}\n" for document in documents))
        return f"--filename={path}"

    def run(self, *arguments: str, given: str | None = None) -> Result:
        return self.kubectl(*arguments, f"--namespace={self.namespace}", given=given)

    def ok(self, *arguments: str, given: str | None = None) -> str:
        """Standard output of a call that must succeed."""
        result = self.run(*arguments, given=given)
        assert result.code == 0, f"kubectl {' '.join(arguments)}: {result.err}{result.out}"
        return result.out

    def fails(self, *arguments: str, given: str | None = None) -> str:
        """Standard error of a call that must fail."""
        result = self.run(*arguments, given=given)
        assert result.code != 0, f"kubectl {' '.join(arguments)} succeeded: {result.out}"
        return result.err

    def create(self, name: str, text: str = "first.example.com", **metadata: Any) -> None:
        self.ok("create", self.file(self.document(name, text, **metadata), name=f"create-{name}.yaml"))

    def get(self, name: str, *arguments: str) -> Any:
        return json.loads(self.ok("get", self.sample.plural, name, "--output=json", *arguments))

    def value(self, name: str) -> Any:
        """The text of an object."""
        found = self.get(name)
        for part in self.sample.field:
            found = found[part]
        return found

    def names(self, *arguments: str) -> list[str]:
        printed = self.ok("get", self.sample.plural, "--output=name", *arguments)
        return [line.partition("/")[2] for line in printed.split()]

    def rows(self, *arguments: str) -> list[list[str]]:
        """Cells of the printed table without its header."""
        return [line.split() for line in self.ok(*arguments).splitlines()[1:]]

    def line(self, name: str, done: str) -> str:
        """What kubectl says about a change."""
        return f"{self.sample.printed}/{name} {done}\n"
