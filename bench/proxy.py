"""CPU time per proxied request, beside nginx doing the same job in the same run.

TLS on both sides, client certificates on both sides, 2 kB JSON answers, HTTP/1.1 keep-alive. Each proxy has core 0 to
itself, the backend (nginx) and the load (wrk) share core 1. Rounds alternate between the proxies; medians are printed.
What is compared is the CPU time that the system charged to the proxy's processes, divided by the requests: the
number of requests per second depends on the load generator as much.

What recording costs, `--observe access`, `audit` (level Metadata, without RequestReceived) or a ratio of traces tells.

    python -m bench.proxy [--rounds 5] [--seconds 4] [--connections 16]
"""

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import re
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aggregator.observe.access_log import AccessLog
from aggregator.observe.audit import AuditLog
from aggregator.observe.audit_policy import AuditPolicy, Level, Rule, Stage, Wanted
from aggregator.observe.rotating import RotatingFile
from aggregator.proxy.observer import Observer
from aggregator.proxy.routes import RouteTable
from aggregator.proxy.server import Proxy
from aggregator.upstream.tls import UpstreamTLS
from apimachinery.identity import User
from apimachinery.types import Object
from apiserver.tls import server_context

BACKEND_PORT, NGINX_PORT, OURS_PORT = 17443, 16443, 16444
PATH = "/apis/bench.test/v1/namespaces/default/things/one"
SERVER_NAME = "bench.default.svc"
TARGET_RATIO = 1.6

_BACKEND_CONF = """
worker_processes 1; pid {dir}/backend.pid; error_log {dir}/backend.log; daemon off;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {dir}/b1; proxy_temp_path {dir}/b2;
 fastcgi_temp_path {dir}/b3; uwsgi_temp_path {dir}/b4; scgi_temp_path {dir}/b5;
 server {{ listen 127.0.0.1:{backend} ssl; ssl_certificate {dir}/backend.crt; ssl_certificate_key {dir}/backend.key;
  ssl_client_certificate {dir}/ca.crt; ssl_verify_client optional;
  location / {{ default_type application/json; root {dir}; try_files /body.json =404; }} }} }}
"""
_PROXY_CONF = """
worker_processes 1; pid {dir}/proxy.pid; error_log {dir}/proxy.log; daemon off;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {dir}/p1; proxy_temp_path {dir}/p2;
 fastcgi_temp_path {dir}/p3; uwsgi_temp_path {dir}/p4; scgi_temp_path {dir}/p5;
 upstream backend {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 1000000000; }}
 server {{ listen 127.0.0.1:{nginx} ssl; ssl_certificate {dir}/proxy.crt; ssl_certificate_key {dir}/proxy.key;
  ssl_client_certificate {dir}/ca.crt; ssl_verify_client optional;
  location / {{ proxy_pass https://backend; proxy_http_version 1.1; proxy_set_header Connection "";
   proxy_set_header X-Remote-User $ssl_client_s_dn; proxy_ssl_certificate {dir}/client.crt;
   proxy_ssl_certificate_key {dir}/client.key; proxy_ssl_trusted_certificate {dir}/ca.crt; proxy_ssl_verify on;
   proxy_ssl_name {name}; proxy_ssl_server_name on; proxy_ssl_session_reuse on; }} }} }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One run of the load against one proxy."""

    requests: int
    cpu_microseconds: float
    per_second: float
    p99_milliseconds: float


class _Everybody:
    """Every client is an administrator: authentication costs one certificate per connection, not per request."""

    def authenticate(self, certificate: bytes | None, headers: Sequence[tuple[str, str]]) -> User | None:
        return User("admin", groups=("system:masters", "system:authenticated"))

    def reads_headers(self, certificate: bytes | None) -> bool:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--profile", type=Path, help="write a cProfile of the proxy to this file")
    parser.add_argument("--observe", default="", metavar="KIND", help="record requests: access, audit, trace=0.01")
    arguments = parser.parse_args()
    if arguments.serve is not None:
        _serve(arguments.serve, arguments.profile, arguments.observe)
        return 0
    missing = [name for name in ("nginx", "wrk") if _which(name) is None]
    if missing:
        print(f"the benchmark needs {' and '.join(missing)}: apt-get install nginx-light wrk", file=sys.stderr)
        return 2
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("the benchmark needs two cores: one for the proxy, one for backend and load", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        _prepare(directory)
        with _running(directory, cores, arguments.profile, arguments.observe) as processes:
            results: dict[str, list[Round]] = {"nginx": [], "aggregator": []}
            for _ in range(arguments.rounds):
                for proxy, port in (("nginx", NGINX_PORT), ("aggregator", OURS_PORT)):
                    results[proxy].append(_load(processes[proxy], port, arguments, cores[1], directory))
            memory = {proxy: sum(map(_rss, _family(processes[proxy]))) for proxy in results}
    return _report(results, memory)


def _report(results: dict[str, list[Round]], memory: dict[str, float]) -> int:
    base = statistics.median(item.cpu_microseconds for item in results["nginx"])
    print(f"{'proxy':<12}{'CPU us/request':>16}{'ratio':>8}{'requests/s':>12}{'p99 ms':>9}{'RSS MB':>9}")
    ratio = 0.0
    for proxy, rounds in results.items():
        cpu = statistics.median(item.cpu_microseconds for item in rounds)
        ratio = cpu / base
        speed = statistics.median(item.per_second for item in rounds)
        p99 = statistics.median(item.p99_milliseconds for item in rounds)
        print(f"{proxy:<12}{cpu:>16.1f}{ratio:>8.2f}{speed:>12.0f}{p99:>9.2f}{memory[proxy]:>9.1f}")
    version = sys.version.split()[0]
    print(f"python {version} ({sys.executable}); one built without profile-guided optimisation costs more")
    verdict = "met" if ratio <= TARGET_RATIO else "MISSED"
    print(f"target: at most {TARGET_RATIO} x nginx: {verdict}")
    return 0 if ratio <= TARGET_RATIO else 1


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _prepare(directory: Path) -> None:
    _issue(directory)
    filler = [{"metadata": {"name": f"thing-{number}"}, "spec": {"size": number}} for number in range(37)]
    (directory / "body.json").write_text(json.dumps({"kind": "ThingList", "items": filler})[:2047] + "\n")
    ports = {"dir": directory, "backend": BACKEND_PORT, "nginx": NGINX_PORT, "name": SERVER_NAME}
    (directory / "backend.conf").write_text(_BACKEND_CONF.format(**ports))
    (directory / "proxy.conf").write_text(_PROXY_CONF.format(**ports))


def _issue(directory: Path) -> None:
    """A CA, and RSA certificates under it for backend, proxy and client."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key = rsa.generate_private_key(65537, 2048)
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench-ca")])

    def start(subject: x509.Name, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        return builder.not_valid_after(now + datetime.timedelta(days=1))

    ca = start(ca_name, ca_key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    (directory / "ca.crt").write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    for name in ("backend", "proxy", "client"):
        key = rsa.generate_private_key(65537, 2048)
        builder = start(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
        names = x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME), x509.DNSName("localhost")])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = builder.add_extension(names, critical=False).add_extension(usage, critical=False)
        signed = certificate.sign(ca_key, hashes.SHA256())
        (directory / f"{name}.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (directory / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))


@contextlib.contextmanager
def _running(directory: Path, cores: Sequence[int], profile: Path | None, observe: str) -> Iterator[dict[str, int]]:
    nginx = _which("nginx") or "nginx"
    ours = [sys.executable, "-m", "bench.proxy", "--serve", str(directory), "--observe", observe]
    if profile is not None:
        ours += ["--profile", str(profile)]
    commands = {
        "backend": ([nginx, "-c", str(directory / "backend.conf"), "-p", str(directory)], cores[1]),
        "nginx": ([nginx, "-c", str(directory / "proxy.conf"), "-p", str(directory)], cores[0]),
        "aggregator": (ours, cores[0]),
    }
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, (command, core) in commands.items():
            started[name] = subprocess.Popen(["taskset", "-c", str(core), *command], stderr=subprocess.DEVNULL)
        for port in (BACKEND_PORT, NGINX_PORT, OURS_PORT):
            _await_answer(port, directory)
        yield {name: process.pid for name, process in started.items()}
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.wait(10)


def _await_answer(port: int, directory: Path) -> None:
    context = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(f"https://localhost:{port}{PATH}", context=context) as response:
                if response.status == 200:
                    return
        except OSError as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"nothing answers on port {port}: {error}") from error
        time.sleep(0.1)


def _load(pid: int, port: int, arguments: argparse.Namespace, core: int, directory: Path) -> Round:
    family = _family(pid)
    before = sum(map(_cpu_seconds, family))
    command = ["taskset", "-c", str(core), _which("wrk") or "wrk", "-t1", f"-c{arguments.connections}"]
    command += [f"-d{arguments.seconds}", "--latency", f"https://localhost:{port}{PATH}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = sum(map(_cpu_seconds, family)) - before
    counted = re.search(r"(\d+) requests in ([\d.]+)s", output)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    if counted is None or tail is None or "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"the load against port {port} failed:\n{output}")
    requests = int(counted.group(1))
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}[tail.group(2)]
    return Round(
        requests=requests,
        cpu_microseconds=used * 1e6 / requests,
        per_second=requests / float(counted.group(2)),
        p99_milliseconds=float(tail.group(1)) * scale,
    )


def _family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _observer(directory: Path, kind: str) -> Observer | None:
    if kind == "access":
        return Observer([AccessLog(RotatingFile(directory / "access.log"), "logfmt")])
    if kind == "audit":
        wanted = Wanted(Level.METADATA, frozenset([Stage.REQUEST_RECEIVED]))
        policy = AuditPolicy((Rule(wanted=wanted),))
        return Observer([AuditLog(policy, RotatingFile(directory / "audit.log"), body_bytes=0, queue=100_000)])
    if kind.startswith("trace="):
        from aggregator.observe.tracing import Tracer

        # Nobody listens there: what is measured is what a request costs the proxy, not the export.
        return Observer([Tracer("http://127.0.0.1:9", ratio=float(kind.removeprefix("trace=")), version="bench")])
    return None


def _serve(directory: Path, profile: Path | None, observe: str) -> None:
    async def run() -> None:
        proxy = Proxy(
            ssl_context=server_context(directory / "proxy.crt", directory / "proxy.key", [directory / "ca.crt"]),
            authenticator=_Everybody(),
            upstream_tls=UpstreamTLS(directory / "client.crt", directory / "client.key"),
        )
        proxy.plane.observer = _observer(directory, observe)
        proxy.plane.install(RouteTable.build([_apiservice(directory)], [_externalname()]))
        await proxy.start("127.0.0.1", OURS_PORT)
        stop = asyncio.Event()
        for number in (15, 2):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()
        await proxy.stop()

    if profile is None:
        uvloop.run(run())
    else:
        import cProfile

        profiler = cProfile.Profile()
        profiler.runcall(uvloop.run, run())
        profiler.dump_stats(profile)


def _apiservice(directory: Path) -> Object:
    import base64

    bundle = base64.b64encode((directory / "ca.crt").read_bytes()).decode()
    service = {"namespace": "default", "name": "bench", "port": BACKEND_PORT}
    return {
        "metadata": {"name": "v1.bench.test"},
        "spec": {"group": "bench.test", "version": "v1", "caBundle": bundle, "service": service},
        "status": {"conditions": [{"type": "Available", "status": "True"}]},
    }


def _externalname() -> Object:
    return {"metadata": {"namespace": "default", "name": "bench"}, "spec": {"host": "127.0.0.1"}}


if __name__ == "__main__":
    raise SystemExit(main())
