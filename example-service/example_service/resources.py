"""The kinds of example.grafana.app/v0alpha1: what Grafana's own example API declares."""

import platform
import time
from dataclasses import dataclass

from apimachinery.identity import User
from apimachinery.table import AGE_COLUMN, NAME_COLUMN, Column, human_duration
from apimachinery.types import Object
from apiserver.resource import Resource, Subresource, SubresourceRequest
from apiserver.version import program_commit, program_version
from example_service.identity import GROUP, VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What `runtime` tells about the running program. `started` is in epoch seconds."""

    version: str
    commit: str
    python: str
    started: float


def running_build() -> Build:
    """The build of this process, started now."""
    return Build(
        version=program_version(), commit=program_commit(), python=platform.python_version(), started=time.time()
    )


_DUMMY_SCHEMA: Object = {
    "type": "object",
    "description": "DummyResource is a resource to try things with.",
    "properties": {"spec": {"type": "string", "description": "Any text."}},
}

_RUNTIME_SCHEMA: Object = {
    "type": "object",
    "description": "RuntimeInfo tells which build of the server is running, and since when.",
    "properties": {
        "startupTime": {
            "type": "integer",
            "format": "int64",
            "description": "When the server started, in milliseconds since the epoch.",
        },
        "buildVersion": {"type": "string", "description": "Version of the program."},
        "buildCommit": {"type": "string", "description": "Commit that the program was built from."},
        "pythonVersion": {"type": "string", "description": "Version of the Python interpreter."},
    },
}


def _dummy_columns() -> tuple[Column, ...]:
    spec = Column("Spec", "string", lambda obj, _now: obj.get("spec", ""), description="The text of the resource.")
    return (NAME_COLUMN, spec, AGE_COLUMN)


def _runtime_columns() -> tuple[Column, ...]:
    def uptime(obj: Object, now: float) -> str:
        return human_duration(now - obj["startupTime"] / 1000)

    return (
        Column("Version", "string", lambda obj, _now: obj["buildVersion"], description="Version of the program."),
        Column("Commit", "string", lambda obj, _now: obj["buildCommit"], description="Commit it was built from."),
        Column("Python", "string", lambda obj, _now: obj["pythonVersion"], description="Version of the interpreter."),
        Column("Uptime", "string", uptime, description="Time since the server started."),
    )


async def _dummy_sub(request: SubresourceRequest) -> Object:
    name = request.parent["metadata"]["name"]
    return {"info": f"{name}/{request.user.name}"}


def resources(build: Build) -> list[Resource]:
    """The declarations of the group version."""

    async def runtime(_user: User) -> Object:
        return {
            "kind": "RuntimeInfo",
            "apiVersion": f"{GROUP}/{VERSION}",
            "startupTime": int(build.started * 1000),
            "buildVersion": build.version,
            "buildCommit": build.commit,
            "pythonVersion": build.python,
        }

    return [
        Resource(
            group=GROUP,
            version=VERSION,
            kind="RuntimeInfo",
            plural="runtime",
            singular="runtime",
            namespaced=False,
            schema=_RUNTIME_SCHEMA,
            columns=_runtime_columns(),
            verbs=("list",),
            virtual_list=runtime,
            description="RuntimeInfo tells which build of the server is running, and since when.",
        ),
        Resource(
            group=GROUP,
            version=VERSION,
            kind="DummyResource",
            plural="dummy",
            singular="dummy",
            namespaced=True,
            schema=_DUMMY_SCHEMA,
            columns=_dummy_columns(),
            subresources=(
                Subresource(
                    name="sub",
                    kind="DummySubresource",
                    get=_dummy_sub,
                    schema={
                        "type": "object",
                        "properties": {"info": {"type": "string", "description": "Names of dummy and caller."}},
                    },
                    description="DummySubresource tells who asked for which dummy.",
                ),
            ),
            description="DummyResource is a resource to try things with.",
        ),
    ]
