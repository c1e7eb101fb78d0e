"""What the use cases need from outside."""

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from apiserver.storage.base import Store

_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Characters of generated name suffixes: no vowels and no lookalikes, as the originals."""


def random_suffix() -> str:
    return "".join(random.choices(_NAME_ALPHABET, k=5))


def random_uid() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The store, and the sources of time, identity and chance that tests replace."""

    store: Store
    now: Callable[[], float] = time.time
    """Seconds since the epoch."""
    new_uid: Callable[[], str] = random_uid
    new_suffix: Callable[[], str] = field(default=random_suffix)
