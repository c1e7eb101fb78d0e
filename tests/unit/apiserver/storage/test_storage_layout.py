"""Names of files and directories: readable where possible, never ambiguous."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apimachinery.gvk import GroupResource
from apiserver.storage.base import Key
from apiserver.storage.layout import decode_directory, decode_group, directory_of, encode_group, file_of

TEXT = st.text(alphabet=st.sampled_from("aAzZ019.-_~%/\\: é\0core"), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("key", "directory", "file"),
    [
        pytest.param(
            Key(GroupResource("apiregistration.k8s.io", "apiservices"), "", "v1.example.org"),
            ("apiregistration.k8s.io", "apiservices"),
            "v1.example.org.json",
            id="cluster-scoped",
        ),
        pytest.param(
            Key(GroupResource("service.grafana.app", "externalnames"), "default", "example-apiserver"),
            ("service.grafana.app", "externalnames", "default"),
            "example-apiserver.json",
            id="namespaced",
        ),
        pytest.param(Key(GroupResource("", "nodes"), "", "a"), ("core", "nodes"), "a.json", id="core group"),
        pytest.param(
            Key(GroupResource("core", "nodes"), "", "a"), ("%63ore", "nodes"), "a.json", id="a group named core"
        ),
        pytest.param(
            Key(GroupResource("g", "r"), "", "system:Admin/x"), ("g", "r"), "system%3a%41dmin%2fx.json", id="unsafe"
        ),
        pytest.param(Key(GroupResource("g", "r"), "", ".."), ("g", "r"), "%2e..json", id="dots"),
        pytest.param(
            Key(GroupResource("..", "."), "..", "a"), ("%2e.", "%2e", "%2e%2e"), "a.json", id="escape attempt"
        ),
        pytest.param(Key(GroupResource("g", "r"), "b.json", "a"), ("g", "r", "b%2ejson"), "a.json", id="like a file"),
        pytest.param(Key(GroupResource("g", "r"), "", "é~%"), ("g", "r"), "%c3%a9%7e%25.json", id="not ASCII"),
    ],
)
def test_paths(key: Key, directory: tuple[str, ...], file: str) -> None:
    assert (directory_of(key), file_of(key)) == (directory, file)


@given(TEXT, TEXT)
@example("a" * 250 + "b", "a" * 250 + "c")
@example("a" * 219 + "A", "a" * 219 + "B")
def test_different_names_are_different_files_on_any_file_system(one: str, other: str) -> None:
    files = {file_of(Key(GroupResource("g", "r"), "", name)).casefold() for name in (one, other)}
    assert len(files) == len({one, other})
    for file in files:
        assert file.isascii()
        assert not file.startswith(".")
        assert not set(file) & set("/\\\0: ")
        assert len(file) <= 240


@given(TEXT)
def test_directories_can_be_read_back(name: str) -> None:
    assert decode_group(encode_group(name)) == name
    (_, resource, namespace) = directory_of(Key(GroupResource("g", name), name, "x"))
    assert decode_directory(resource) == decode_directory(namespace) == name
    assert "." not in namespace, "so that no namespace can look like an object's file"


@pytest.mark.parametrize("foreign", [".git", "Apps", "a b", "%41%", "a%2D", "lost+found", "%2e%2E"])
def test_foreign_directories_are_recognized(foreign: str) -> None:
    assert decode_group(foreign) is None
    assert decode_directory(foreign) is None


def test_core_is_not_the_group_named_core() -> None:
    assert decode_group("core") == ""
    assert decode_group("%63ore") == "core"


@pytest.mark.parametrize("key", [Key(GroupResource("g", ""), "", "a"), Key(GroupResource("g", "r"), "", "")])
def test_empty_parts(key: Key) -> None:
    name = file_of if key.resource.resource else directory_of
    with pytest.raises(ValueError, match="empty"):
        name(key)
