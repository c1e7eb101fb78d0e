import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiserver import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, asyncio_level = root.handlers[:], root.level, logging.getLogger("asyncio").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(asyncio_level)
    logging.captureWarnings(False)


def written(format: logs.Format = "logfmt", level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, format, stream)
    return stream


def line_of(**fields: Any) -> str:
    stream = written()
    logs.get("test").info("event", **fields)
    return stream.getvalue()


def test_line_has_time_level_logger_and_event_first() -> None:
    stream = written()
    logs.get("api.proxy").info("request done", code=200)
    pattern = r'ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info logger=api\.proxy msg="request done" code=200\n'
    assert re.fullmatch(pattern, stream.getvalue())


def test_time_is_utc_in_milliseconds() -> None:
    stream = written()
    record = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "m", "created": 1767323045.0789})
    logging.getLogger().handlers[0].handle(record)
    assert stream.getvalue().startswith("ts=2026-01-02T03:04:05.078Z ")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param("plain-value/1.0", "plain-value/1.0", id="bare"),
        pytest.param("", '""', id="empty"),
        pytest.param("two words", '"two words"', id="space"),
        pytest.param('say "hi"', r'"say \"hi\""', id="quotes"),
        pytest.param("a=b", '"a=b"', id="equals sign"),
        pytest.param("a\nlevel=error", r'"a\nlevel=error"', id="newline"),
        pytest.param("a\x1b[31m", r'"a\u001b[31m"', id="terminal escape"),
        pytest.param("a\x85b\u2028", r'"a\u0085b\u2028"', id="unicode line breaks"),
        pytest.param("größe", "größe", id="letters"),
        pytest.param(None, "null", id="none"),
        pytest.param(True, "true", id="bool"),
        pytest.param(0.1 + 0.2, "0.3", id="float"),
        pytest.param(["a", "b c"], '"a,b c"', id="list"),
        pytest.param(b"secret bytes", '"<12 bytes>"', id="bytes"),
        pytest.param(ValueError("no\nluck"), r'"ValueError: no\nluck"', id="exception"),
        pytest.param(TimeoutError(), "TimeoutError", id="exception without text"),
    ],
)
def test_values(value: object, shown: str) -> None:
    assert line_of(field=value).endswith(f' msg="event" field={shown}\n')


def test_value_that_cannot_be_shown_does_not_break_the_log() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    assert "<unprintable Broken>" in line_of(field=Broken())


@given(st.text())
def test_every_event_is_one_line(text: str) -> None:
    formats: tuple[logs.Format, ...] = ("logfmt", "json")
    for format in formats:
        stream = io.StringIO()
        logs.configure("info", format, stream)
        logs.get("test").info(text, field=text)
        assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "password",
        "key",
        "authorization",
        "Authorization",
        "bearer_token",
        "private_key",
        "client_secret",
        "cookie",
    ],
)
def test_secret_fields_are_masked(name: str) -> None:
    line = line_of(**{name: "hunter2"})
    assert "hunter2" not in line
    assert f"{name}=***" in line


@pytest.mark.parametrize("name", ["object", "keys", "keyed_by", "key_file", "tokens_seen"])
def test_other_fields_are_not(name: str) -> None:
    assert f"{name}=x1" in line_of(**{name: "x1"})


@pytest.mark.parametrize(
    "text",
    [
        "got Authorization: Bearer abcdefghijklmnop.qrst",
        "-----BEGIN PRIVATE KEY-----\nabcdefghijklmnop\n-----END PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nabcdefghijklmnop (cut off)",
    ],
    ids=["bearer", "private key", "cut private key"],
)
def test_secrets_inside_text_are_masked(text: str) -> None:
    stream = written()
    logging.getLogger("third.party").warning("%s", text)
    logs.get("test").info("event", error=RuntimeError(text), values=[text])
    assert "abcdefghijklmnop" not in stream.getvalue()
    assert stream.getvalue().count("***") == 3


def test_json_lines_keep_types() -> None:
    stream = written("json")
    logs.get("test").warning("tab\there", count=3, ok=True, none=None, text="x", level="mine")
    document = json.loads(stream.getvalue())
    assert document.pop("ts").endswith("Z")
    assert document == {
        "level": "warning",
        "logger": "test",
        "msg": "tab\there",
        "count": 3,
        "ok": True,
        "none": None,
        "text": "x",
        "level_": "mine",
    }


def test_bound_fields_are_on_every_line() -> None:
    stream = written()
    log = logs.get("test").bind(audit_id="1-2").bind(user="bob")
    log.info("one")
    log.info("two", user="eve")
    one, two = stream.getvalue().splitlines()
    assert one.endswith("audit_id=1-2 user=bob")
    assert two.endswith("audit_id=1-2 user=eve")


def test_lines_of_other_libraries_look_the_same() -> None:
    stream = written()
    logging.getLogger("hypercorn.error").error("bad %s", "thing")
    assert stream.getvalue().endswith(' level=error logger=hypercorn.error msg="bad thing"\n')


def test_exception_has_error_and_traceback_in_one_line() -> None:
    stream = written()
    try:
        raise KeyError("missing")
    except KeyError:
        logs.get("test").exception("failed", path="/x")
    (line,) = stream.getvalue().splitlines()
    assert """path=/x error="KeyError: 'missing'" traceback="Traceback""" in line


def test_levels() -> None:
    stream = written(level="warning")
    log = logs.get("test")
    log.debug("no")
    log.info("no")
    log.warning("yes")
    log.error("yes")
    assert stream.getvalue().count("msg=") == stream.getvalue().count("yes") == 2
    assert not log.enabled(logging.INFO)


def test_configuring_again_replaces_the_stream() -> None:
    first, second = written(), written("json")
    logs.get("test").info("event")
    assert (first.getvalue(), second.getvalue().count("\n")) == ("", 1)


@pytest.mark.parametrize(("level", "format"), [("loud", "logfmt"), ("info", "xml")])
def test_unknown_settings_are_refused(level: str, format: str) -> None:
    with pytest.raises(ValueError, match=r"loud|xml"):
        logs.configure(level, format)  # type: ignore[arg-type]
