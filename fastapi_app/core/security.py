"""Who calls: a credential is verified once, and asked on each request only whether something has ended it since."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPMethod
from typing import Annotated, NoReturn

import httpx2
from fastapi import Depends
from starlette.requests import Request
from starlette.types import ASGIApp

from fastapi_app.core.api_keys import ApiKeys, open_api_keys
from fastapi_app.core.credentials import Credential, Principal, challenge, refuse
from fastapi_app.core.database import Database
from fastapi_app.core.errors import Forbidden, Unauthenticated, Unavailable
from fastapi_app.core.external_users import ExternalSubjects
from fastapi_app.core.http_client import HttpClient
from fastapi_app.core.jwks import IssuerKeys
from fastapi_app.core.requests import Guard, resources_of
from fastapi_app.core.revocation import RevocationView
from fastapi_app.core.tokens import Issuer, OwnSubjects, SignedBy, TokenVerifier
from project.asgi_scope import header
from project.config import API_KEY_PREFIX, Config, TrustedIssuer

OWN_COOL_DOWN_S = 2.0
"""The own issuer is asked again sooner: it is near, and the key that replaces a compromised one signs at once."""
READS = frozenset({HTTPMethod.GET, HTTPMethod.HEAD, HTTPMethod.OPTIONS})


@dataclass(slots=True)
class _Known:
    credential: Credential
    signed_by: SignedBy | None
    looked_at: int = -1
    """``RevocationView.changes`` when it was found not to be revoked."""
    looked_up: int = 0
    """``RevocationView.lookups`` when the database was last asked whether it is revoked."""


class Authenticator:
    """Believes access tokens and API keys, each verified once for as long as it is good."""

    MOST_REMEMBERED = 4096
    """Credentials; about 2 KB each. The one that was verified first makes room."""
    MOST_REMEMBERED_CHARACTERS = 8 * 1024 * 1024
    """Of all remembered credentials together, whose length is their issuer's choice."""

    def __init__(self, tokens: TokenVerifier, api_keys: ApiKeys, revocations: RevocationView) -> None:
        self._tokens = tokens
        self._api_keys = api_keys
        self._revocations = revocations
        self._known: dict[str, _Known] = {}
        self._known_characters = 0

    async def authenticate(self, shown: str) -> Principal:
        """The principal that an access token, or an API key, speaks for.

        Raises:
            Unauthenticated: it is not to be believed, or not any more; the message says why, without its content.
            Unavailable: what it takes to tell does not answer just now.
        """
        known = self._known.get(shown)
        if (
            known is not None
            and time.time() < known.credential.expires_at
            and (known.looked_at == self._revocations.changes or not await self._is_revoked(known))
            and (known.signed_by is None or known.signed_by.is_current)
        ):
            return known.credential.principal
        known = await self._verify(shown)
        if await self._is_revoked(known):
            refuse("it has been revoked")
        self._remember(shown, known)
        return known.credential.principal

    def _remember(self, shown: str, known: _Known) -> None:
        if self._known.pop(shown, None) is None:
            self._known_characters += len(shown)
        self._known[shown] = known
        while len(self._known) > self.MOST_REMEMBERED or self._known_characters > self.MOST_REMEMBERED_CHARACTERS:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._known_characters -= len(oldest)

    async def _is_revoked(self, known: _Known) -> bool:
        """Whether it was revoked: memory says so, or the database where memory does not hold all that matters."""
        view, credential = self._revocations, known.credential.revocable
        changes, lookups = view.changes, view.lookups  # What changes while the database is asked is looked at again.
        if view.is_revoked(credential):
            return True
        if lookups > known.looked_up:
            if await view.look_up(credential):
                return True
            known.looked_up = lookups
        known.looked_at = changes
        return False

    async def _verify(self, shown: str) -> _Known:
        if shown.startswith(API_KEY_PREFIX):
            return _Known(await self._api_keys.verify(shown), None)
        return _Known(*await self._tokens.verify(shown))


@asynccontextmanager
async def open_authenticator(
    config: Config, database: Database, revocations: RevocationView, issuer: ASGIApp, http: HttpClient
) -> AsyncIterator[Authenticator]:
    """What verifies callers. ``issuer`` publishes the service's own keys in this process; others' come by ``http``.

    Nothing is fetched yet: an issuer that does not answer must not keep this service from starting.
    """
    async with AsyncExitStack() as stack:
        in_process = httpx2.ASGITransport(issuer, root_path=httpx2.URL(config.base_url).path.rstrip("/"))
        within = await stack.enter_async_context(httpx2.AsyncClient(transport=in_process))
        own = TrustedIssuer(
            issuer=config.base_url,
            audiences=(config.api_audience, config.api_resource),
            algorithms=("RS256", "ES256"),
            jwks_uri=f"{config.base_url}/.well-known/jwks.json",
        )

        def keys_of(
            trusted: TrustedIssuer, client: httpx2.AsyncClient, *, cool_down_s: float = IssuerKeys.COOL_DOWN_S
        ) -> IssuerKeys:
            keys = IssuerKeys(trusted.issuer, trusted.jwks_uri, client, cool_down_s=cool_down_s)
            stack.push_async_callback(keys.close)
            return keys

        own_keys = keys_of(own, within, cool_down_s=OWN_COOL_DOWN_S)
        issuers = [
            Issuer(own, own_keys, OwnSubjects(max_ttl_s=config.max_token_ttl_s)),
            *(
                Issuer(trusted, keys_of(trusted, http.client), ExternalSubjects(trusted, database))
                for trusted in config.trusted_issuers
            ),
        ]
        api_keys = await stack.enter_async_context(open_api_keys(database))
        tokens = TokenVerifier(issuers, max_length=config.max_token_length, clock_skew_s=config.clock_skew_s)
        yield Authenticator(tokens, api_keys, revocations)


class Requires(Guard):
    """A dependency: who calls, once it is certain that their credential carries these scopes.

    Raises:
        Unauthenticated: nothing was shown, or nothing that is to be believed.
        Forbidden: a scope is missing.
        Unavailable: it is a write, and what is revoked has not been heard for too long.
    """

    def __init__(self, *scopes: str) -> None:
        self.scopes = frozenset(scopes)

    async def __call__(self, request: Request) -> Principal:
        written = header(request.scope, b"authorization") or b""
        scheme, _, shown = written.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not shown:
            raise Unauthenticated("Send an access token.", headers=challenge())
        resources = resources_of(request)
        principal = await resources.authenticator.authenticate(shown.strip())
        if not self.scopes <= principal.scopes:
            self._forbid(principal)
        if request.method not in READS and resources.revocations.is_stale:
            raise Unavailable("What was revoked cannot be looked up just now, so nothing is changed.")
        request.scope["caller"] = name = principal.name
        if "rate_limits" in request.scope:
            request.scope["rate_limits"].count_principal(name)
        return principal

    def _forbid(self, principal: Principal) -> NoReturn:
        needed, missing = (" ".join(sorted(scopes)) for scopes in (self.scopes, self.scopes - principal.scopes))
        headers = challenge(error="insufficient_scope", scope=needed)
        raise Forbidden(f"The token lacks the scope {missing}.", headers=headers)


any_caller = Requires()
"""Demands a good credential, whatever its scopes."""

CurrentPrincipal = Annotated[Principal, Depends(any_caller)]


async def current_user_id(principal: CurrentPrincipal) -> int:
    """Whom the caller speaks for. Raises Forbidden when that is a machine client, which is nobody."""
    if principal.user_id is None:
        raise Forbidden("This endpoint needs a user's token; a machine client's token has no user.")
    return principal.user_id


CurrentUserId = Annotated[int, Depends(current_user_id)]
