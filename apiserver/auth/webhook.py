"""Asking another server for a review: POST of a document, answer of the same kind with a status."""

import asyncio
from typing import Any, Final

import orjson

from apimachinery.types import Object
from apiserver import http1
from apiserver.auth.remote_config import RemoteConfig

TIMEOUT_SECONDS: Final = 10.0
"""For all attempts together (aggregator.md 9.1)."""
FAILURE_SECONDS: Final = 1.0
"""How long a failure to get an answer counts as the answer: those who wait are let go, and nobody asks in a loop."""
_ATTEMPTS: Final = 5
_FIRST_DELAY_SECONDS: Final = 0.5
_DELAY_FACTOR: Final = 1.5
_MAX_ANSWER_BYTES: Final = 1024 * 1024


class WebhookError(Exception):
    """There is no usable answer; the text says why and holds nothing of the question."""


async def review(config: RemoteConfig, document: Object) -> Object:
    """The status of the answer. Attempts that fail in a way that may pass are repeated. WebhookError."""
    body = orjson.dumps(document)
    headers = (("content-type", "application/json"), ("accept", "application/json"), *config.headers)
    delay = _FIRST_DELAY_SECONDS
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    answer = await http1.request(
                        config.target,
                        "POST",
                        config.path,
                        headers,
                        body,
                        timeout=TIMEOUT_SECONDS,
                        max_body=_MAX_ANSWER_BYTES,
                    )
                except http1.HTTPClientError as error:
                    fault = str(error)
                else:
                    if answer.status in (200, 201):
                        return _status(answer.body)
                    fault = f"{config.target} answered with status {answer.status}"
                    if answer.status != 429 and answer.status < 500:
                        raise WebhookError(fault)
                if attempt < _ATTEMPTS:
                    await asyncio.sleep(delay)
                    delay *= _DELAY_FACTOR
    except TimeoutError:
        raise WebhookError(f"no answer from {config.target} within {TIMEOUT_SECONDS:g} s") from None
    raise WebhookError(fault)


def _status(body: bytes) -> Object:
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise WebhookError("the answer is not JSON") from None
    status = found.get("status") if isinstance(found, dict) else None
    if not isinstance(status, dict):
        raise WebhookError("the answer has no status")
    return status


def texts(value: Any) -> tuple[str, ...]:
    """A list of strings in an answer; anything else is none."""
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
