"""Memory that is not used any more goes back to the system."""

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import asyncio, contextlib
from apiserver import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

async def main():
    used = [bytes(20_000) for _ in range(5000)]
    lives_on = bytes(20_000)
    full = resident()
    used.clear()
    print(full - resident())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(memory.keep_small(0.05), 0.5)
    print(full - resident(), len(lives_on))

asyncio.run(main())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators give back by themselves")
def test_what_lies_beneath_memory_in_use_is_given_back() -> None:
    told = subprocess.run([sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True, timeout=60)
    before, after = (int(line.split()[0]) for line in told.stdout.splitlines())
    assert before < 10_000_000, "the allocator kept nothing: there is nothing to test"
    assert after > 90_000_000
