"""Certificates and authorities are replaced in the running stack under load: nothing fails, all end on the new ones."""

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from cryptography import x509

from tests.e2e.stack import EXAMPLE_API, Stack
from tests.support.callers import Callers, Kubeconfig
from tests.support.kubectl import Kubectl
from tests.support.waiting import wait_until

PATH = "/apis/example.grafana.app/v0alpha1/namespaces/default/dummy"
REQUESTS_PER_SECOND = 500
"""What the callers ask for together; a machine that is busy answers less."""
LEAST_PER_SECOND = 50
LASTING = 10
AUTHORITIES = ("ca", "client-ca", "front-proxy-ca")
STEPS = ("trust", "switch", "finish")


def serial(pem: str) -> int:
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def pki(stack: Stack, *arguments: str) -> str:
    """`aggregator-pki` as an operator runs it, in the container that issued everything."""
    return stack.run("run", "--rm", "--no-deps", "pki", "aggregator-pki", *arguments, "--dir=/pki").stdout


class Load:
    """Callers in a thread of their own."""

    def __init__(self, stack: Stack) -> None:
        self.callers = Callers(
            port=stack.api_port,
            path=PATH,
            identity=Kubeconfig(stack.kubeconfig),
            expected=lambda answer: answer.status == 200,
        )
        self._thread = threading.Thread(target=self._run, name="load")
        self._begin = 0.0

    def start(self) -> None:
        self._begin = time.monotonic()
        self._thread.start()

    def _run(self) -> None:
        try:
            asyncio.run(self.callers.run(fresh=2, lasting=LASTING, pause=LASTING / REQUESTS_PER_SECOND))
        except BaseException as error:
            self.callers.failures.append(repr(error))

    def stop(self) -> float:
        """End the load; good answers per second."""
        self.callers.stop()
        self._thread.join(timeout=30)
        return self.callers.answers / (time.monotonic() - self._begin)


@contextmanager
def load(stack: Stack) -> Iterator[Load]:
    running = Load(stack)
    running.start()
    try:
        wait_until(lambda: running.callers.answers > 100, seconds=20)
        yield running
    finally:
        rate = running.stop()
    assert running.callers.failures == []
    assert rate > LEAST_PER_SECOND


def settle(running: Load, stack: Stack, what: str, done: Callable[[], bool]) -> None:
    wait_until(done, seconds=30)
    # Every server looks at its files each second.
    time.sleep(3)
    assert running.callers.failures == [], what
    assert stack.plain("/readyz").status == 200


def reloads(stack: Stack, name: str) -> float:
    return stack.samples("aggregator_file_reloads_total").get(f'name="{name}",result="success"', 0)


def reached(stack: Stack, name: str, count: float) -> bool:
    return reloads(stack, name) >= count


@pytest.mark.parametrize(
    ("name", "watched"),
    [
        pytest.param("aggregator", "serving", id="serving"),
        pytest.param("admin", "kubeconfig-client", id="client"),
        pytest.param("front-proxy-client", "proxy-client", id="front-proxy"),
    ],
)
@pytest.mark.parametrize("new_key", [(), ("--new-keys",)], ids=["same key", "new key"])
def test_a_certificate_is_renewed_under_load(stack: Stack, name: str, watched: str, new_key: tuple[str, ...]) -> None:
    before, count = serial(stack.pki_file(f"{name}.crt")), reloads(stack, watched)
    with load(stack) as running:
        assert f" {name}, valid until " in pki(stack, "renew", name, *new_key)
        settle(running, stack, name, partial(reached, stack, watched, count + 1))
        if name == "aggregator":
            wait_until(lambda: shown(stack) != before, seconds=5)
            assert shown(stack) == serial(stack.pki_file("aggregator.crt"))


def shown(stack: Stack) -> int:
    """The serial number of the certificate that the aggregator shows to a new client."""
    return serial(ssl.get_server_certificate(("localhost", stack.api_port)))


@pytest.mark.parametrize("name", AUTHORITIES)
def test_an_authority_is_replaced_under_load(stack: Stack, kubectl: Kubectl, name: str) -> None:
    old = stack.pki_file(f"{name}.crt")
    watched = {"ca": "apiservice-ca", "client-ca": "client-ca", "front-proxy-ca": "proxy-client"}[name]
    with load(stack) as running:
        for step in STEPS:
            # The authority of front proxies is a matter of the servers behind; here the leaf alone changes.
            noticed = name != "front-proxy-ca" or step == "switch"
            target = reloads(stack, watched) + (1 if noticed else 0)
            pki(stack, "rotate-ca", name, step)
            settle(running, stack, f"{name} {step}", partial(reached, stack, watched, target))
    new = stack.pki_file(f"{name}.crt")
    assert (new.count("BEGIN CERTIFICATE"), new == old) == (1, False)
    assert kubectl.available(EXAMPLE_API) == "True"
    kubectl.ok("get", "dummy", "--namespace=default")
    if name == "ca":
        bundle = kubectl.json("get", "apiservice", EXAMPLE_API)["spec"]["caBundle"]
        assert bundle in stack.kubeconfig.read_text()


def test_expiration_is_shown(stack: Stack) -> None:
    ends = stack.samples("aggregator_certificate_expiration_timestamp_seconds")
    names = {"serving", "client-ca", "proxy-client", "apiservice-ca", "kubeconfig-client", "serving-ca"}
    assert {label.removeprefix('name="').removesuffix('"') for label in ends} == names
    assert all(end > time.time() + 300 * 86400 for end in ends.values())
