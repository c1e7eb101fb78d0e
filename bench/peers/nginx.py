"""nginx: the backend of all proxies, and a proxy to compare with."""

from pathlib import Path

from bench.pki import SERVER_NAME
from bench.ports import BACKEND, BACKEND_HTTP2, NGINX, STREAMS

_HTTP = """
worker_processes 1; pid {dir}/{role}.pid; error_log {dir}/{role}.log; daemon off;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; client_max_body_size 0; sendfile on;
 client_body_temp_path {dir}/{role}1; proxy_temp_path {dir}/{role}2; fastcgi_temp_path {dir}/{role}3;
 uwsgi_temp_path {dir}/{role}4; scgi_temp_path {dir}/{role}5;
"""
_BACKEND = """
 server {{ listen 127.0.0.1:{backend} ssl backlog=4096;
  listen 127.0.0.1:{backend_http2} ssl http2 backlog=4096; ssl_certificate {dir}/backend.crt;
  ssl_certificate_key {dir}/backend.key; ssl_client_certificate {dir}/ca.crt; ssl_verify_client optional;
  location / {{ default_type application/json; root {dir}; try_files /body.json =404; }}
  location ~ /large$ {{ default_type application/octet-stream; root {dir}; try_files /large.bin =404; }} }} }}
"""
_PROXY = """
 upstream backend {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 1000000000; }}
 upstream streams {{ server 127.0.0.1:{streams}; keepalive 64; keepalive_requests 1000000000; }}
 proxy_http_version 1.1; proxy_request_buffering off; proxy_set_header Connection "";
 proxy_set_header X-Remote-User bench; proxy_set_header X-Remote-Group system:authenticated;
 proxy_ssl_certificate {dir}/client.crt; proxy_ssl_certificate_key {dir}/client.key;
 proxy_ssl_trusted_certificate {dir}/ca.crt; proxy_ssl_verify on; proxy_ssl_name {name}; proxy_ssl_server_name on;
 proxy_ssl_session_reuse on; proxy_max_temp_file_size 0;
 server {{ listen 127.0.0.1:{nginx} ssl http2; ssl_certificate {dir}/proxy.crt;
  ssl_certificate_key {dir}/proxy.key; ssl_client_certificate {dir}/ca.crt; ssl_verify_client optional;
  location / {{ proxy_pass https://backend; }}
  location /apis/streams.test/ {{ proxy_pass https://streams; }} }} }}
"""


def write(directory: Path) -> None:
    """`backend.conf` and `nginx.conf`."""
    values = {"dir": directory, "backend": BACKEND, "streams": STREAMS, "nginx": NGINX, "name": SERVER_NAME}
    values["backend_http2"] = BACKEND_HTTP2
    for role, rest in (("backend", _BACKEND), ("nginx", _PROXY)):
        (directory / f"{role}.conf").write_text((_HTTP + rest).format(role=role, **values))


def command(binary: str, directory: Path, role: str) -> list[str]:
    return [binary, "-c", str(directory / f"{role}.conf"), "-p", str(directory)]
