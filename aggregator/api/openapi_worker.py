"""Does the slow work on OpenAPI documents where nobody waits for it."""

import asyncio
import sys
from collections.abc import Sequence

from aggregator.api import openapi_jobs
from aggregator.api.openapi_answer import UnusableDocumentError

IN_THREAD_BYTES = 128 * 1024
"""Input up to this size is worked on in a thread, more in a process of its own.

A thread shares the interpreter lock: while documents of 7 MB were taken over in one (2.8 s), the event loop stood still
for 276 to 412 ms, as the JSON parser never lets go of the lock and its garbage takes long to collect. With a process it
was late by 11 ms at most. 128 KiB take some 20 ms in a thread, and a process costs 0.15 s to start. It is not kept:
such documents change rarely, and the memory that it needed is free again.
"""
_TIMEOUT_SECONDS = 180.0


class OpenAPIWorker:
    """Runs the jobs of `openapi_jobs`. At most `processes` run at the same time."""

    def __init__(self, processes: int = 1, in_thread_bytes: int = IN_THREAD_BYTES) -> None:
        self._free = asyncio.Semaphore(processes)
        self._in_thread_bytes = in_thread_bytes

    async def run(self, job: str, parts: Sequence[bytes]) -> list[bytes]:
        """The result of a job. UnusableDocumentError when a document is not what it should be, or too much."""
        if sum(map(len, parts)) <= self._in_thread_bytes:
            return await asyncio.to_thread(openapi_jobs.JOBS[job], parts)
        async with self._free:
            return await _in_process(job, parts)


async def _in_process(job: str, parts: Sequence[bytes]) -> list[bytes]:
    # In a session of its own a Ctrl-C for this process does not end that one with a traceback.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        openapi_jobs.__name__,
        job,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            output, _ = await process.communicate(await asyncio.to_thread(openapi_jobs.pack, parts))
    except TimeoutError:
        raise UnusableDocumentError(f"the document takes longer than {_TIMEOUT_SECONDS:g} s to read") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == openapi_jobs.UNUSABLE_EXIT:
        raise UnusableDocumentError(output.decode())
    if process.returncode:
        raise UnusableDocumentError(f"the document takes too much memory or time (exit status {process.returncode})")
    return openapi_jobs.unpack(output)
