"""Who comes in and what they may do, put together from the settings: tokens, policy, and whom to ask besides."""

import ssl
from collections.abc import Callable, Coroutine
from typing import Any

from aggregator.settings.model import Settings
from apimachinery.authorization import Policy
from apimachinery.rbac import BOOTSTRAP, RuleBook
from apiserver.auth import policy_file, remote_config, static_tokens
from apiserver.auth.access_webhook import AccessWebhook
from apiserver.auth.authorizer import Authorizers
from apiserver.auth.oidc import ClaimRules, OIDCAuthenticator
from apiserver.auth.oidc_keys import ProviderKeys, https_fetch
from apiserver.auth.token_webhook import TokenWebhook
from apiserver.auth.tokens import StaticTokenAuthenticator, TokenAuthenticator, Tokens
from apiserver.auth.watched import WatchedFile
from apiserver.auth.yaml_fields import FileError
from apiserver.reload import Reloader


class AccessError(Exception):
    """Files about access that cannot be used; one line for each fault, naming file, line and field."""


class Access:
    """The authorizer and the token authenticators of this process, and what keeps them up to date.

    `follow` has changed files taken over; `stop` ends what is being asked elsewhere.
    """

    def __init__(self, settings: Settings) -> None:
        self._files: dict[str, WatchedFile[Any]] = {}
        self._changed: Callable[[], None] = _nothing
        self._stops: list[Callable[[], Coroutine[Any, Any, None]]] = []
        try:
            self.authorizer = self._authorizer(settings)
            self.tokens = Tokens(self._token_authenticators(settings))
        except FileError as error:
            raise AccessError(str(error)) from None

    def on_policy_change(self, changed: Callable[[], None]) -> None:
        """Call back whenever the authorizer begins to decide differently."""
        self._changed = changed

    def follow(self, files: Reloader) -> None:
        """Have the files looked at, each under a name of its own; bad ones are FileErrors."""
        for name, file in self._files.items():
            files.watch(name, [file.path], file.reload)

    async def stop(self) -> None:
        """Give up what is being asked elsewhere."""
        for stop in self._stops:
            await stop()

    def _authorizer(self, settings: Settings) -> Authorizers:
        wanted = settings.authorization
        policy = Policy(
            always_allow_paths=wanted.always_allow_paths, anonymous_paths=settings.authentication.anonymous_paths
        )
        rules = RuleBook()
        if wanted.policy_file is not None:
            file = WatchedFile(wanted.policy_file, policy_file.load, self._policy_changed)
            self._files["authorization-policy"] = file
            rules = file.value
        webhook: AccessWebhook | None = None
        if wanted.webhook_config_file is not None:
            webhook = AccessWebhook(
                remote_config.load(wanted.webhook_config_file),
                authorized_seconds=wanted.webhook_authorized_seconds,
                unauthorized_seconds=wanted.webhook_unauthorized_seconds,
            )
            self._stops.append(webhook.stop)
        return Authorizers(policy, BOOTSTRAP.extended(rules), webhook)

    def _policy_changed(self, rules: RuleBook) -> None:
        self.authorizer.rules = BOOTSTRAP.extended(rules)
        self._changed()

    def _token_authenticators(self, settings: Settings) -> list[TokenAuthenticator]:
        wanted = settings.authentication
        found: list[TokenAuthenticator] = []
        if wanted.token_file is not None:
            file = WatchedFile(wanted.token_file, static_tokens.load, lambda _: self.tokens.changed())
            self._files["tokens"] = file
            found.append(StaticTokenAuthenticator(file))
        if settings.oidc.issuer_url:
            provider = _oidc(settings)
            self._stops.append(provider.stop)
            found.append(provider)
        if wanted.webhook_config_file is not None:
            webhook = TokenWebhook(
                remote_config.load(wanted.webhook_config_file), cache_seconds=wanted.webhook_cache_seconds
            )
            self._stops.append(webhook.stop)
            found.append(webhook)
        return found


def _oidc(settings: Settings) -> OIDCAuthenticator:
    wanted = settings.oidc
    rules = ClaimRules(
        issuer_url=wanted.issuer_url,
        client_id=wanted.client_id,
        username_claim=wanted.username_claim,
        username_prefix=wanted.username_prefix,
        groups_claim=wanted.groups_claim,
        groups_prefix=wanted.groups_prefix,
        required_claims=dict(claim.split("=", 1) for claim in wanted.required_claims),
        signing_algs=wanted.signing_algs,
    )
    try:
        context = ssl.create_default_context(cafile=wanted.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise FileError(f"{wanted.ca_file}: no usable PEM certificates: {error}") from None
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return OIDCAuthenticator(rules, ProviderKeys(wanted.issuer_url, https_fetch(context)))


def check(settings: Settings) -> None:
    """Read everything that the settings name, as a start would. AccessError."""
    Access(settings)


def _nothing() -> None:
    pass
