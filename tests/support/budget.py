"""How many examples property and fuzz tests try: a fixed small number in CI, `SOAK` times as many in `make soak`."""

import os
from typing import Final

_TIMES: Final = int(os.environ.get("SOAK", "1"))


def examples(number: int) -> int:
    """The budget of a test that makes do with `number` examples each time it runs."""
    return number * _TIMES
