"""Which failures a server reports in its log: its own, not those that clients ask for."""

import dataclasses
import logging
from typing import Any

import pytest

from apimachinery.types import Object
from apiserver.resource import Subresource, SubresourceRequest
from apiserver.rest.write import storage_failed
from apiserver.storage.base import StorageError
from tests.unit.apiserver.rest.conftest import WIDGET, make_server

WIDGETS = "/apis/test.example.com/v1/namespaces/default/widgets"
OBJECT = {"apiVersion": "test.example.com/v1", "kind": "Widget", "metadata": {"name": "a"}}


async def _full(_: SubresourceRequest) -> Object:
    raise storage_failed(StorageError("No space left on device"))


async def _wrong(_: SubresourceRequest) -> Object:
    raise ValueError("a mistake of ours")


BREAKING = dataclasses.replace(
    WIDGET,
    subresources=(
        Subresource(name="full", kind="Widget", get=_full),
        Subresource(name="wrong", kind="Widget", get=_wrong),
    ),
)


@pytest.mark.parametrize(
    ("method", "target", "body", "level"),
    [
        ("GET", "/a?resourceVersion=abc", None, logging.DEBUG),
        ("PATCH", "/a?fieldManager=x", {**OBJECT, "colour": "red"}, logging.DEBUG),
        ("GET", "/a/full", None, logging.WARNING),
        ("GET", "/a/wrong", None, logging.ERROR),
    ],
    ids=["malformed resourceVersion", "unknown field applied", "storage", "a bug"],
)
async def test_level_of_a_500(
    method: str, target: str, body: Any, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    call = make_server(BREAKING).call
    assert (await call("POST", WIDGETS, OBJECT)).code == 201
    caplog.set_level(logging.DEBUG)
    answer = await call(method, WIDGETS + target, body, {"content-type": "application/apply-patch+yaml"})
    assert answer.code == 500
    assert [record.levelno for record in caplog.records if record.message == "request failed"] == [level]
