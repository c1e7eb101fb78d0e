"""`spec.caBundle` travels as base64 text; what Go's decoder accepts is accepted, the rest is a decoding error."""

import base64
import binascii
import string

_ALPHABET = frozenset(string.ascii_letters + string.digits + "+/=")


def decode(text: str) -> bytes:
    """The bytes that the text stands for; line breaks are ignored. ValueError naming the position of the fault."""
    joined = text.replace("\r", "").replace("\n", "")
    try:
        return base64.b64decode(joined, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"illegal base64 data at input byte {_fault_position(text)}") from None


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _fault_position(text: str) -> int:
    """The offset of the first bad character, or of the incomplete group of four at the end."""
    significant = [(position, char) for position, char in enumerate(text) if char not in "\r\n"]
    for position, char in significant:
        if char not in _ALPHABET:
            return position
    padding = next((position for position, char in significant if char == "="), None)
    if padding is not None:
        return padding
    remainder = len(significant) % 4
    return significant[len(significant) - remainder][0] if remainder else len(text)
