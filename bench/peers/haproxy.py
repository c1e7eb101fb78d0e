"""HAProxy with one thread, doing the same."""

from pathlib import Path

from bench.pki import SERVER_NAME
from bench.ports import BACKEND, HAPROXY

_CONF = """
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
  http-reuse always
frontend front
  bind 127.0.0.1:{haproxy} ssl crt {dir}/proxy.pem ca-file {dir}/ca.crt verify optional alpn h2,http/1.1
  http-request set-header X-Remote-User bench
  http-request set-header X-Remote-Group system:authenticated
  default_backend back
backend back
  default-server ssl verify required ca-file {dir}/ca.crt crt {dir}/client.pem
  server one 127.0.0.1:{backend} sni str({name}) verifyhost {name}
"""


def write(directory: Path) -> None:
    values = {"dir": directory, "backend": BACKEND, "haproxy": HAPROXY, "name": SERVER_NAME}
    (directory / "haproxy.cfg").write_text(_CONF.format(**values))


def command(binary: str, directory: Path) -> list[str]:
    return [binary, "-db", "-q", "-f", str(directory / "haproxy.cfg")]
