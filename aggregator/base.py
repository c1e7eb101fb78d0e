"""What every process of the program stands on, and the errors that its start can end with."""

import contextlib
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from aggregator.access import AccessError
from aggregator.bootstrap import BootstrapError
from aggregator.keypair import KeyPairError
from aggregator.kubeconfig import KubeconfigError
from aggregator.remote_services import RemoteServicesError
from aggregator.settings import Settings
from aggregator.upstream.tls import UpstreamTLSError
from apiserver.background import Background
from apiserver.health import HealthChecks
from apiserver.serving import ListenError
from apiserver.storage.directory import DataDirectoryError
from apiserver.tls import TLSConfigError

START_ERRORS = (
    AccessError,
    BootstrapError,
    DataDirectoryError,
    KeyPairError,
    KubeconfigError,
    ListenError,
    RemoteServicesError,
    TLSConfigError,
    UpstreamTLSError,
)
"""What is wrong around the program; the text is one line for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Whatever is started registers its end on `stack`, so that things end in the opposite order."""

    settings: Settings
    stack: contextlib.AsyncExitStack
    background: Background
    collectors: CollectorRegistry = field(default_factory=CollectorRegistry)
    health: HealthChecks = field(default_factory=HealthChecks)
