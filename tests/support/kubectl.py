"""An unmodified kubectl with a home of its own."""

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    code: int
    out: str
    err: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    kubeconfig: Path
    home: Path
    """Holds kubectl's discovery cache, so that no other cluster's cache helps or harms."""

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KUBE", "KUBECTL"))}
        return kept | {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.home)}

    def __call__(self, *arguments: str, given: str | None = None, seconds: float = 30) -> Result:
        begin = time.monotonic()
        done = subprocess.run(
            ["kubectl", *arguments],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return Result(code=done.returncode, out=done.stdout, err=done.stderr, seconds=time.monotonic() - begin)

    def ok(self, *arguments: str, given: str | None = None) -> str:
        """Standard output of a call that must succeed."""
        result = self(*arguments, given=given)
        assert result.code == 0, f"kubectl {' '.join(arguments)}: {result.err}{result.out}"
        return result.out

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "--output=json"))

    def raw(self, path: str) -> Any:
        return json.loads(self.ok("get", f"--raw={path}"))

    def apply(self, document: Mapping[str, Any]) -> str:
        return self.ok("apply", "--filename=-", given=json.dumps(document))

    def rows(self, *arguments: str) -> list[list[str]]:
        """Cells of the printed table, its header first."""
        lines = self.ok(*arguments).splitlines()
        return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]

    def available(self, apiservice: str) -> str:
        """The AVAILABLE column of one APIService."""
        return self.rows("get", "apiservice", apiservice)[1][2]

    @contextmanager
    def following(self, *arguments: str) -> Iterator["Lines"]:
        """A kubectl that goes on running, its output line by line; ended when the block is left."""
        with subprocess.Popen(
            ["kubectl", *arguments],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            lines = Lines(process)
            try:
                yield lines
            finally:
                process.terminate()
                lines.reader.join(timeout=10)


class Lines:
    """Lines that a process prints, as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read, args=(process,), name="kubectl-output", daemon=True)
        self.reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._queue.put(line.rstrip("\n"))

    def next_with(self, text: str, *, seconds: float) -> str:
        """The next line that contains `text`; AssertionError with the lines seen when it does not come in time."""
        deadline = time.monotonic() + seconds
        seen: list[str] = []
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._queue.get(timeout=left)
            except queue.Empty:
                break
            if text in line:
                return line
            seen.append(line)
        raise AssertionError(f"no line with {text!r} within {seconds:g} s; seen: {seen}")
