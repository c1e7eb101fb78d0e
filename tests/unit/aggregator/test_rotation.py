"""Every certificate and every authority is replaced under load; nobody notices, and everybody ends on the new ones."""

import asyncio
import base64
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from prometheus_client import CollectorRegistry

from aggregator import bootstrap, kubeconfig, reloads, settings, trust
from aggregator.proxy.routes import RouteTable
from aggregator.proxy.server import Proxy
from aggregator.upstream.tls import UpstreamTLS
from apimachinery.identity import User
from apimachinery.types import Object
from apiserver import serving
from apiserver.auth.request_header import Authenticator, RequestHeaderAuthenticator
from apiserver.auth.trusted import lower_headers
from apiserver.reload import Reloader, ReloadMetrics
from apiserver.tls import ServerTLS
from pki import authority, plan, rotate, write
from pki.files import write_file
from pki.rotation import Step
from tests.support.callers import Callers, Connection, Identity, Kubeconfig
from tests.unit.aggregator.proxy_kit import on_uvloop

API = "v0alpha1.example.grafana.app"
PATH = "/apis/example.grafana.app/v0alpha1/things"
PLANS = plan.development_plan()
POLL_SECONDS = 0.03
SETTLE_SECONDS = 0.25


def serial(file: Path) -> int:
    return x509.load_pem_x509_certificate(file.read_bytes()).serial_number


def revoke(pki: Path, *serials: int) -> None:
    """Write the revocation list of the users' authority."""
    certificate = x509.load_pem_x509_certificate((pki / "client-ca.crt").read_bytes())
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(certificate.subject)
    builder = builder.last_update(now).next_update(now + timedelta(days=1))
    for number in serials:
        builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(number, now).build())
    key = authority.load_key((pki / "client-ca.key").read_bytes())
    listed = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    write_file(pki / "client-ca.crl", listed, mode=0o644)


class Backend:
    """An aggregated API server: it believes the aggregator alone, and answers with the name of the user."""

    def __init__(self, pki: Path) -> None:
        self.tls = ServerTLS(pki / "example-apiserver.crt", pki / "example-apiserver.key", [pki / "front-proxy-ca.crt"])
        self.proxies = RequestHeaderAuthenticator(pki / "front-proxy-ca.crt", allowed_names=("aggregator",))
        self.authenticator = Authenticator(request_header=self.proxies)
        self.files = Reloader(ReloadMetrics(CollectorRegistry(), prefix="apiserver"))
        self.files.watch("serving", self.tls.files, self.tls.reload)
        self.files.watch("requestheader-ca", self.proxies.verifier.files, self.proxies.verifier.reload)
        self.last_peer = 0

    async def __call__(self, scope: serving.Scope, receive: serving.Receive, send: serving.Send) -> None:
        certificate: bytes = scope["state"]["peer_certificate"]
        self.last_peer = x509.load_der_x509_certificate(certificate).serial_number
        user = self.authenticator.authenticate(certificate, lower_headers(scope))
        body = user.name.encode() if isinstance(user, User) else repr(user).encode()
        status = 200 if isinstance(user, User) else 401
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Front:
    """An aggregator's front door with everything that follows files; routes are installed by hand."""

    def __init__(self, pki: Path, data: Path, backend_port: int) -> None:
        environment = {
            "GF_PATHS_DATA": str(data),
            "GF_SERVER_TLS_CERT_FILE": str(pki / "aggregator.crt"),
            "GF_SERVER_TLS_PRIVATE_KEY_FILE": str(pki / "aggregator.key"),
            "GF_SERVER_TLS_CA_FILE": str(pki / "ca.crt"),
            "GF_SERVER_CLIENT_CA_FILE": str(pki / "client-ca.crt"),
            "GF_SERVER_CLIENT_CRL_FILE": str(pki / "client-ca.crl"),
            "GF_REQUESTHEADER_CLIENT_CA_FILE": str(pki / "front-proxy-ca.crt"),
            "GF_REQUESTHEADER_ALLOWED_NAMES": "aggregator",
            "GF_GRAFANA_APISERVER_PROXY_CLIENT_CERT_FILE": str(pki / "front-proxy-client.crt"),
            "GF_GRAFANA_APISERVER_PROXY_CLIENT_KEY_FILE": str(pki / "front-proxy-client.key"),
            "GF_GRAFANA_APISERVER_APISERVICE_CA_BUNDLE_FILE": str(pki / "ca.crt"),
            "GF_GRAFANA_APISERVER_KUBECTL_CLIENT_CERT_FILE": str(pki / "admin.crt"),
            "GF_GRAFANA_APISERVER_KUBECTL_CLIENT_KEY_FILE": str(pki / "admin.key"),
            "GF_FEATURE_TOGGLES_GRAFANAAPISERVERENSUREKUBECTLACCESS": "true",
        }
        configured = settings.load(None, environment).settings
        credentials = bootstrap.ensure(configured, now=datetime.now(UTC))
        trusted = trust.load(configured, credentials)
        upstream = UpstreamTLS(pki / "front-proxy-client.crt", pki / "front-proxy-client.key")
        self.proxy = Proxy(
            ssl_context=trusted.tls.context,
            authenticator=Authenticator(request_header=trusted.front_proxy, certificates=trusted.certificates),
            upstream_tls=upstream,
            request_headers=configured.requestheader.names(),
        )
        self.bundle = b""
        self._backend_port = backend_port
        self.use_bundle((pki / "ca.crt").read_bytes())
        self.collectors = CollectorRegistry()
        self.files = reloads.reloader(self.collectors)
        judged_anew = self.proxy.plane.identities_changed
        reloads.follow_front_door(self.files, credentials, configured, trusted, judged_anew)
        reloads.follow_client_pair(self.files, configured, upstream, self.proxy.plane.certificates_changed)
        reloads.follow_bundle(self.files, configured, self.use_bundle)
        reloads.follow_kubeconfig(self.files, configured, credentials)
        self.kubeconfig = kubeconfig.path(data)

    def use_bundle(self, bundle: bytes) -> bool:
        changed, self.bundle = bundle != self.bundle, bundle
        apiservice: Object = {
            "metadata": {"name": API},
            "spec": {
                "group": "example.grafana.app",
                "version": "v0alpha1",
                "service": {"namespace": "default", "name": API, "port": self._backend_port},
                "caBundle": base64.b64encode(bundle).decode(),
            },
            "status": {"conditions": [{"type": "Available", "status": "True"}]},
        }
        host: Object = {"metadata": {"namespace": "default", "name": API}, "spec": {"host": "127.0.0.1"}}
        self.proxy.plane.install(RouteTable.build([apiservice], [host], self.proxy.plane.table))
        return changed

    def sample(self, metric: str, **labels: str) -> float:
        found = self.collectors.get_sample_value(metric, labels)
        assert found is not None, (metric, labels)
        return found


class Users:
    """Callers with the kubeconfig of the moment, and one behind a front proxy."""

    def __init__(self, front: Front, pki: Path) -> None:
        port = front.proxy.port
        self.kubectl = Callers(
            port=port,
            path=PATH,
            identity=Kubeconfig(front.kubeconfig),
            expected=lambda answer: answer == (200, "grafana-admin"),
        )
        self.front_proxy = Callers(
            port=port,
            path=PATH,
            identity=lambda: front_proxy_identity(pki),
            expected=lambda answer: answer == (200, "carol"),
        )

    async def run(self) -> None:
        headers = (("X-Remote-User", "carol"), ("X-Remote-Group", "system:masters"))
        async with asyncio.TaskGroup() as group:
            group.create_task(self.kubectl.run(), name="kubectl")
            group.create_task(self.front_proxy.keep_connecting(0.02, headers), name="front-proxy")


def front_proxy_identity(pki: Path) -> Identity:
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "front-proxy-client.crt", pki / "front-proxy-client.key")
    return Identity(b"", context)


@contextlib.asynccontextmanager
async def working(*work: Awaitable[Any]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        yield
        assert not [task.exception() for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def world(directory: Path) -> AsyncIterator[tuple[Path, Backend, Front, Users]]:
    pki = directory / "pki"
    write.issue(pki, PLANS, now=datetime.now(UTC))
    revoke(pki)
    backend = Backend(pki)
    server = await serving.serve(backend, ssl_context=backend.tls.context)
    front = Front(pki, directory / "data", server.port)
    await front.proxy.start()
    users = Users(front, pki)
    try:
        async with working(backend.files.run(POLL_SECONDS), front.files.run(POLL_SECONDS), users.run()):
            yield pki, backend, front, users
    finally:
        await front.proxy.stop()
        await server.stop()


async def settled(users: Users, what: str) -> None:
    """Time for everybody to load what was changed; nothing may fail meanwhile."""
    both, begin = (users.kubectl, users.front_proxy), time.monotonic()
    before = [one.answers for one in both]
    while time.monotonic() - begin < SETTLE_SECONDS or any(
        one.answers < count + 5 for one, count in zip(both, before, strict=True)
    ):
        await asyncio.sleep(0.05)
        assert [one.failures for one in both] == [[], []], what


@on_uvloop
async def test_certificates_are_renewed_under_load(tmp_path: Path) -> None:
    async with world(tmp_path) as (pki, backend, front, users):
        await settled(users, "start")
        for name in ("aggregator", "admin", "front-proxy-client", "example-apiserver"):
            for new_keys in (False, True):
                rotate.renew(pki, PLANS, now=datetime.now(UTC), names=[name], new_keys=new_keys)
                await settled(users, name)
        assert backend.last_peer == serial(pki / "front-proxy-client.crt")
        assert users.kubectl.last_served == serial(pki / "aggregator.crt")
        reloads_of = {
            "serving": 2,
            "client-ca": 0,
            "requestheader-ca": 0,
            "proxy-client": 2,
            "apiservice-ca": 0,
            "kubeconfig-client": 2,
        }
        found = {
            name: front.sample("aggregator_file_reloads_total", name=name, result="success") for name in reloads_of
        }
        assert found == reloads_of
        end = x509.load_pem_x509_certificate((pki / "aggregator.crt").read_bytes()).not_valid_after_utc.timestamp()
        assert front.sample("aggregator_certificate_expiration_timestamp_seconds", name="serving") == end


@on_uvloop
async def test_authorities_are_replaced_under_load(tmp_path: Path) -> None:
    async with world(tmp_path) as (pki, backend, front, users):
        await settled(users, "start")
        for name in ("ca", "client-ca", "front-proxy-ca"):
            for step in Step:
                rotate.advance(pki, name, step, PLANS, now=datetime.now(UTC))
                await settled(users, f"{name} {step.value}")
        assert backend.last_peer == serial(pki / "front-proxy-client.crt")
        assert users.kubectl.last_served == serial(pki / "aggregator.crt")
        assert front.bundle == (pki / "ca.crt").read_bytes()
        assert front.bundle.count(b"BEGIN CERTIFICATE") == 1
        embedded = yaml.safe_load(front.kubeconfig.read_bytes())["clusters"][0]["cluster"]["certificate-authority-data"]
        assert base64.b64decode(embedded) == front.bundle


@on_uvloop
async def test_a_former_authority_counts_no_more_on_open_connections_either(tmp_path: Path) -> None:
    """The load of the other tests would not notice if nobody ever looked at the authorities again."""
    async with world(tmp_path) as (pki, _, front, users):
        connection = await Connection.open(front.proxy.port, Kubeconfig(front.kubeconfig)().context)
        for step in Step:
            assert (await connection.ask(PATH)).status == 200
            rotate.advance(pki, "client-ca", step, PLANS, now=datetime.now(UTC))
            await settled(users, step.value)
        assert (await connection.ask(PATH)).status == 401
        connection.close()


@on_uvloop
async def test_who_is_revoked_is_out_on_open_connections_too_until_there_is_another_certificate(tmp_path: Path) -> None:
    async with world(tmp_path) as (pki, _, front, users):
        await settled(users, "start")
        connection = await Connection.open(front.proxy.port, Kubeconfig(front.kubeconfig)().context)
        assert (await connection.ask(PATH)).status == 200
        revoke(pki, serial(pki / "admin.crt"))
        await asyncio.sleep(SETTLE_SECONDS)
        assert (await connection.ask(PATH)).status == 401
        connection.close()
        assert {failure[:4] for failure in users.kubectl.failures} == {"401 "}
        assert users.front_proxy.failures == []
        rotate.renew(pki, PLANS, now=datetime.now(UTC), names=["admin"])
        await asyncio.sleep(SETTLE_SECONDS)
        users.kubectl.failures.clear()
        await settled(users, "renewed")
