import pytest

from aggregator.settings import ini
from tests.unit.aggregator.custom_ini import problems

pytestmark = pytest.mark.usefixtures("in_empty_directory")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a = b", [("DEFAULT", "a", "b", 1)], id="before any section"),
        pytest.param("[DEFAULT]\na: b", [("DEFAULT", "", "", 1), ("DEFAULT", "a", "b", 2)], id="colon"),
        pytest.param("[ s ] ; note\na=b=c", [("s", "", "", 1), ("s", "a", "b=c", 2)], id="first delimiter counts"),
        pytest.param("; x\n# y\n\na =", [("DEFAULT", "a", "", 4)], id="comments and an empty value"),
        pytest.param("a = b # c", [("DEFAULT", "a", "b", 1)], id="comment after a value"),
        pytest.param("a = b;c", [("DEFAULT", "a", "b", 1)], id="comment without a space"),
        pytest.param('a = "b # c" ; d', [("DEFAULT", "a", "b # c", 1)], id="double quotes"),
        pytest.param("a = 'b;c'", [("DEFAULT", "a", "b;c", 1)], id="single quotes"),
        pytest.param("a = `b`", [("DEFAULT", "a", "b", 1)], id="back quotes"),
        pytest.param('a = """b"c"""', [("DEFAULT", "a", 'b"c', 1)], id="triple quotes"),
        pytest.param("\ufeffa = b\r\nc = d\r\n", [("DEFAULT", "a", "b", 1), ("DEFAULT", "c", "d", 2)], id="Windows"),
        pytest.param("a = b\x0cc\nd = e", [("DEFAULT", "a", "b\x0cc", 1), ("DEFAULT", "d", "e", 2)], id="form feed"),
    ],
)
def test_ini(text: str, expected: list[tuple[str, str, str, int]]) -> None:
    assert [(entry.section, entry.key, entry.value, entry.line) for entry in ini.parse(text, "f")] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("\nnonsense", "custom.ini:2: neither a comment, a [section] nor key = value", id="no delimiter"),
        pytest.param("= x", "custom.ini:1: neither a comment, a [section] nor key = value", id="no key"),
        pytest.param("[server", "custom.ini:1: a section header looks like [name]", id="open header"),
        pytest.param("[]", "custom.ini:1: a section header looks like [name]", id="empty header"),
        pytest.param("[log]\nlevel = 'x", "custom.ini:2: [log] level: the closing ' is missing", id="open quote"),
        pytest.param("[log]\nlevel = 'x' y", "custom.ini:2: [log] level: text after the closing '", id="after a quote"),
    ],
)
def test_ini_that_cannot_be_read(text: str, expected: str) -> None:
    assert problems(text) == (expected,)
