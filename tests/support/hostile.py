"""What a client could send that it should not: bodies, patches and query strings as hypothesis strategies."""

import json
import string
from typing import Any

from hypothesis import strategies as st

FIELDS = st.sampled_from(
    [
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        "status",
        "name",
        "namespace",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "managedFields",
        "resourceVersion",
        "uid",
        "generation",
        "size",
        "color",
        "parts",
        "ready",
        "deletionTimestamp",
        "creationTimestamp",
        "generateName",
        "fieldsV1",
        "operation",
        "manager",
        "time",
        "f:spec",
        "$patch",
        "$setElementOrder/parts",
        "$retainKeys",
        "$deleteFromPrimitiveList/x",
        "n",
        "k:{",
        ".",
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(("a", "default", "Widget", "test.example.com/v1", "replace", "Apply", "FieldsV1", "delete", "0")),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(FIELDS, inner, max_size=5)),
    max_leaves=20,
)
OBJECTS = st.dictionaries(FIELDS, VALUES, max_size=6)
NAMED = st.builds(
    lambda metadata, rest: {**rest, "metadata": {**metadata, "name": "a"}},
    st.dictionaries(FIELDS, VALUES, max_size=4),
    st.dictionaries(FIELDS, VALUES, max_size=4),
)
OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "op": st.one_of(st.sampled_from(("add", "remove", "replace", "move", "copy", "test")), SCALARS),
            "path": st.one_of(
                st.sampled_from(("", "/", "/spec", "/spec/parts/-", "/metadata/labels/x", "/~2")), SCALARS
            ),
            "from": st.one_of(st.sampled_from(("", "/spec", "/metadata")), SCALARS),
            "value": VALUES,
        },
    ),
    max_size=4,
)


def encoded(value: Any) -> bytes:
    # NaN and lone surrogates too: what no client should send.
    return json.dumps(value).encode("utf-8", "surrogatepass")


BODIES = st.one_of(
    st.binary(max_size=60),
    st.one_of(VALUES, OBJECTS, NAMED, OPERATIONS).map(encoded),
    st.integers(1, 6000).map(lambda depth: b"[" * depth),
    st.integers(1, 6000).map(lambda depth: b'{"metadata":' * depth + b"1" + b"}" * depth),
    st.integers(1, 9000).map(lambda digits: b'{"spec":{"size":' + b"9" * digits + b"}}"),
)
YAML = st.one_of(
    BODIES,
    st.text(alphabet="ab:- \n&*!|>{}[]'\"#%@?,0~", max_size=60).map(str.encode),
    st.just(b"a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c]\ne: [*d,*d,*d,*d]\n"),
)
PARAMETERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "labelSelector",
                "fieldSelector",
                "limit",
                "continue",
                "resourceVersion",
                "resourceVersionMatch",
                "pretty",
                "dryRun",
                "fieldManager",
                "fieldValidation",
                "force",
                "timeout",
                "propagationPolicy",
                "includeObject",
                "gracePeriodSeconds",
                "orphanDependents",
                "sendInitialEvents",
                "allowWatchBookmarks",
                "x",
            ]
        ),
        st.one_of(
            st.text(max_size=20),
            st.text(alphabet="abc=!,()<>\\in notin ", max_size=20),
            st.integers(-(2**70), 2**70).map(str),
            st.sampled_from(("All", "Strict", "Ignore", "true", "0", "1", "Exact", "NotOlderThan", "Orphan", "1s")),
        ),
    ),
    max_size=4,
)


def query(parameters: list[tuple[str, str]]) -> str:
    """A query string with every byte escaped that is not a letter or a digit."""
    plain = string.ascii_letters + string.digits

    def escaped(text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        return "".join(chr(byte) if chr(byte) in plain else f"%{byte:02X}" for byte in data)

    return "&".join(f"{name}={escaped(value)}" for name, value in parameters)
