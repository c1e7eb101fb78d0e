"""Group, version, kind and resource identifiers, and the order of versions."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class GroupVersion:
    group: str
    version: str

    @classmethod
    def parse(cls, api_version: str) -> "GroupVersion":
        """Parse an `apiVersion`: `v1` is the legacy core group, `group/version` any other. ValueError otherwise."""
        parts = api_version.split("/")
        if len(parts) == 1:
            return cls("", parts[0])
        if len(parts) == 2:
            return cls(parts[0], parts[1])
        raise ValueError(f"unexpected GroupVersion string: {api_version}")

    def __str__(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def path(self) -> str:
        """The URL prefix of this group version: `/apis/<group>/<version>` or `/api/<version>`."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


@dataclass(frozen=True, slots=True, order=True)
class GroupResource:
    """A plural resource of a group; prints as errors name it: `resource.group`, or `resource` in the core group."""

    group: str
    resource: str

    def __str__(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource


@dataclass(frozen=True, slots=True, order=True)
class GroupKind:
    """A kind of a group; prints as errors name it: `Kind.group`, or `Kind` in the core group."""

    group: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


_KUBE_VERSION = re.compile(r"^v([0-9]+)(?:(alpha|beta)([0-9]+))?$")
_STABILITY = {None: 2, "beta": 1, "alpha": 0}


def version_sort_key(version: str) -> tuple[int, int, int, int, str]:
    """Sort key that puts versions in kube-aware order, most preferred first.

    GA before beta before alpha, then larger major, then larger minor; versions that do not look like
    `v1`, `v1beta2`, `v1alpha3` come last, alphabetically.
    """
    match = _KUBE_VERSION.match(version)
    if match is None:
        return (1, 0, 0, 0, version)
    major, stability, minor = match.group(1), match.group(2), match.group(3)
    return (0, -_STABILITY[stability], -int(major), -int(minor or 0), "")
