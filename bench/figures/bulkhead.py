"""One backend that takes ten seconds beside nine fast ones, 200 requests/s each: do the nine notice?"""

import subprocess

from bench import measure
from bench.figures.tail import paced
from bench.peers.ours import FAST
from bench.ports import EXTRA
from bench.stage import Stage, need
from bench.table import Figure

_RATE = 200
_GAIN = 1.2
_FILL_SECONDS = 4.0


def figure(stage: Stage) -> Figure:
    urls = [f"https://localhost:{EXTRA}/apis/{group}/v1/namespaces/default/things/one" for group in FAST]
    alone, beside = [], []
    with stage.running("bulkhead", stage.ours("--port", str(EXTRA), "--unlimited"), EXTRA, core=stage.proxy_core):
        for _ in range(stage.options.rounds):
            alone.append(measure.percentile(paced(stage, urls, _RATE * len(FAST), clients=45), 0.99))
            slow = _slow(stage)
            try:
                # Until so many requests wait at the slow backend as ever will before its first answers.
                slow_ended = _ended_within(slow, 1.0 if stage.options.quick else _FILL_SECONDS)
                if slow_ended:
                    raise measure.LoadError("the slow load ended early")
                beside.append(measure.percentile(paced(stage, urls, _RATE * len(FAST), clients=45), 0.99))
            finally:
                slow.terminate()
                slow.wait()
    ratio = measure.median(beside) / measure.median(alone)
    return Figure(
        title="Bulkhead: nine fast backends at 200 requests/s each beside one that takes 10 s",
        columns=("nine fast backends", "p99 ms"),
        rows=[
            ("alone", f"{measure.median(alone):.2f}"),
            ("beside the slow one", f"{measure.median(beside):.2f}"),
        ],
        target=f"the nine keep their p99 within 20 % (is {ratio:.2f} x)",
        met=ratio <= _GAIN,
        notes=(
            "The slow requests come over HTTP/2, 200 a second. The limit of requests in progress over all backends is"
            " off here: it would answer 429 to a user who holds so many, whichever backend they wait for.",
        ),
    )


def _slow(stage: Stage) -> subprocess.Popen[bytes]:
    connections, streams = 20, 100
    command = [
        "taskset",
        "-c",
        str(stage.load_core),
        need("h2load"),
        "--npn-list=h2",
        "-t1",
        f"-c{connections}",
        f"-m{streams}",
    ]
    command += [f"--rps={_RATE / connections:.0f}", "-D", "60"]
    command.append(f"https://localhost:{EXTRA}/apis/streams.test/v1/namespaces/default/things/slow")
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
