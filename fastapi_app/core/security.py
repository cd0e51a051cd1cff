"""Who calls: access tokens (RFC 9068) are verified here, offline; Django, or another issuer, has signed them."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol

from fastapi import Depends
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import Key, KeySet

from fastapi_app.core.errors import Forbidden, Unauthenticated
from fastapi_app.core.requests import AppRequest

ALGORITHMS = ("RS256",)
TOKEN_TYPE = "at+jwt"  # noqa: S105  A media type (RFC 9068, section 2.1), not a secret.
MAXIMUM_TOKEN_LENGTH = 8192
"""Characters; longer than a token with any sane number of scopes, short enough to refuse before decoding."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, and what they may do."""

    user_id: int
    client_id: str
    scopes: frozenset[str]

    @property
    def name(self) -> str:
        """What tells callers apart: rate limits and idempotency keys are per name."""
        return f"user:{self.user_id}"


class KeySource(Protocol):
    """Where the verifier finds an issuer's public keys."""

    async def find(self, kid: str) -> Key | None:
        """The key with this id, or None."""
        ...


class KeyFile:
    """Public keys in a JWK Set file (RFC 7517), read again when it has changed: at once for an unknown key."""

    LOOK_EVERY_S = 1.0
    """How long a key that the file no longer has is still believed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: dict[str | None, Key] = {}
        self._changed_at = -1
        self._look_again_at = 0.0

    async def find(self, kid: str) -> Key | None:
        if kid not in self._keys or time.monotonic() >= self._look_again_at:
            self._look()
        return self._keys.get(kid)

    def _look(self) -> None:
        self._look_again_at = time.monotonic() + self.LOOK_EVERY_S
        try:
            changed_at = self.path.stat().st_mtime_ns
        except FileNotFoundError:
            self._keys, self._changed_at = {}, -1  # The first token will make it.
            return
        if changed_at != self._changed_at:
            keys = KeySet.import_key_set(json.loads(self.path.read_bytes())).keys
            self._keys, self._changed_at = {key.kid: key for key in keys}, changed_at


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token's principal, for as long as the token has not expired and its key is the one that is published."""

    principal: Principal
    expires_at: float
    kid: str
    key: Key


class TokenVerifier:
    """Verifies access tokens of one issuer for one audience, each once for as long as it is good."""

    MOST_REMEMBERED = 4096
    """Tokens; about 2 KB each. The one that was verified first makes room."""

    def __init__(self, *, issuer: str, audience: str, keys: KeySource) -> None:
        self.keys = keys
        self._claims = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            client_id={"essential": True},
        )
        self._verified: dict[str, _Verified] = {}

    async def verify(self, token: str) -> Principal:
        """The principal that ``token`` speaks for.

        Checks, in this order: length, type, key, algorithm and signature, then issuer, audience and times.

        Raises:
            Unauthenticated: the token is not to be believed; the message says why, without its content.
        """
        known = self._verified.get(token)
        if known and time.time() < known.expires_at and await self.keys.find(known.kid) is known.key:
            return known.principal
        if len(token) > MAXIMUM_TOKEN_LENGTH:
            refuse("the token is too long")
        try:
            header = jws.extract_compact(token.encode()).headers()
            if str(header.get("typ", "")).lower().removeprefix("application/") != TOKEN_TYPE:
                refuse("it is not an access token")
            kid = str(header.get("kid", ""))
            key = await self.keys.find(kid)
            if key is None:
                refuse("it is signed by an unknown key")
            claims = jwt.decode(token, key, algorithms=ALGORITHMS).claims
            self._claims.validate(claims)
            verified = _Verified(_principal(claims), float(claims["exp"]), kid, key)
        except ExpiredTokenError:
            refuse("the token has expired")
        except (JoseError, ValueError, RecursionError):
            refuse("the token is not valid")
        if len(self._verified) >= self.MOST_REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = verified
        return verified.principal


def _principal(claims: Mapping[str, Any]) -> Principal:
    return Principal(
        user_id=int(claims["sub"]),
        client_id=str(claims["client_id"]),
        scopes=frozenset(str(claims.get("scope", "")).split()),
    )


def refuse(reason: str) -> NoReturn:
    """Refuse a token that was shown (RFC 6750, section 3.1).

    Raises:
        Unauthenticated: always.
    """
    challenge = f'Bearer realm="tandem", error="invalid_token", error_description="{reason}"'
    raise Unauthenticated(f"The access token was refused: {reason}.", headers={"WWW-Authenticate": challenge})


class Requires(SecurityBase):
    """A dependency: who calls, once it is certain that their token carries these scopes.

    Raises:
        Unauthenticated: no token was shown, or one that is not to be believed.
        Forbidden: a scope is missing.
    """

    def __init__(self, *scopes: str) -> None:
        self.scopes = frozenset(scopes)
        self.model = HTTPBearer(bearerFormat="JWT", description="An access token (RFC 9068).")
        self.scheme_name = "access_token"

    async def __call__(self, request: AppRequest) -> Principal:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("Show an access token.", headers={"WWW-Authenticate": 'Bearer realm="tandem"'})
        principal = await request.state["resources"].tokens.verify(token.strip())
        if not self.scopes <= principal.scopes:
            self._forbid(principal)
        if "rate_limits" in request.scope:
            request.scope["rate_limits"].count_principal(principal.name)
        return principal

    def _forbid(self, principal: Principal) -> NoReturn:
        needed, missing = (" ".join(sorted(scopes)) for scopes in (self.scopes, self.scopes - principal.scopes))
        challenge = f'Bearer realm="tandem", error="insufficient_scope", scope="{needed}"'
        raise Forbidden(f"The token lacks the scope {missing}.", headers={"WWW-Authenticate": challenge})


any_caller = Requires()
"""Demands a good token, whatever its scopes."""

CurrentPrincipal = Annotated[Principal, Depends(any_caller)]
