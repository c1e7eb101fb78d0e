"""Requests that are larger than allowed. Pure."""

from aggregator.proxy.decide import Reply, from_error, text
from aggregator.proxy.headers import Headers
from aggregator.proxy.limits import Limits
from apimachinery import status

HEAD_TOO_LARGE = text(431, "431 Request Header Fields Too Large", close=True)
TARGET_TOO_LONG = text(414, "414 URI Too Long", close=True)
BODY_TOO_SLOW = text(408, "408 Request Timeout: the request body arrives too slowly", close=True)


def head_refusal(limits: Limits, raw_target: bytes, fields: Headers, content_length: int) -> Reply | None:
    """What a request is answered because of its head's parts or of the size that its body has by its head."""
    if 0 < limits.target_bytes < len(raw_target):
        return TARGET_TOO_LONG
    if 0 < limits.head_fields < len(fields):
        return HEAD_TOO_LARGE
    if 0 < limits.body_bytes < content_length:
        return body_too_large(limits)
    return None


def body_too_large(limits: Limits) -> Reply:
    """The originals' answer to a body beyond the limit (rest.md, table of errors)."""
    return from_error(status.request_entity_too_large(f"limit is {limits.body_bytes}"), close=True)
