"""A certificate and its private key from files, checked to belong together."""

from dataclasses import dataclass
from pathlib import Path

from pki import authority


class KeyPairError(Exception):
    """A certificate or key cannot be used; one line that names the file."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """PEM texts as they are in the files; the key never appears in repr."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "KeyPair(...)"


def read_file(path: Path) -> bytes:
    """The content of a file; KeyPairError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyPairError(f"cannot read {path}: {error.strerror}") from None


def read_certificates(path: Path) -> bytes:
    """A PEM file of one or more certificates."""
    data = read_file(path)
    try:
        authority.load_bundle(data)
    except ValueError as error:
        raise KeyPairError(f"{path}: {error}") from None
    return data


def read(certificate_file: Path, key_file: Path) -> KeyPair:
    """Read and check a pair."""
    certificate_data = read_certificates(certificate_file)
    key_data = read_file(key_file)
    try:
        key = authority.load_key(key_data)
    except ValueError as error:
        raise KeyPairError(f"{key_file}: {error}") from None
    if not authority.matches(authority.load_certificate(certificate_data), key):
        raise KeyPairError(f"{key_file} does not belong to {certificate_file}")
    return KeyPair(certificate_data, key_data)
