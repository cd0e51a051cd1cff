"""Who calls: access tokens (RFC 9068) are verified here, offline; Django, or another issuer, has signed them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
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


class KeySource(Protocol):
    """Where the verifier finds an issuer's public keys."""

    async def find(self, kid: str) -> Key | None:
        """The key with this id, or None."""
        ...


class KeyFile:
    """Public keys in a JWK Set file (RFC 7517), read again whenever the file has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: dict[str | None, Key] = {}
        self._changed_at = -1

    async def find(self, kid: str) -> Key | None:
        try:
            changed_at = self.path.stat().st_mtime_ns
        except FileNotFoundError:
            return None  # The first token will make it.
        if changed_at != self._changed_at:
            keys = KeySet.import_key_set(json.loads(self.path.read_bytes())).keys
            self._keys, self._changed_at = {key.kid: key for key in keys}, changed_at
        return self._keys.get(kid)


class TokenVerifier:
    """Verifies access tokens of one issuer for one audience."""

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

    async def verify(self, token: str) -> Principal:
        """The principal that ``token`` speaks for.

        Checks, in this order: length, type, key, algorithm and signature, then issuer, audience and times.

        Raises:
            Unauthenticated: the token is not to be believed; the message says why, without its content.
        """
        if len(token) > MAXIMUM_TOKEN_LENGTH:
            refuse("the token is too long")
        try:
            header = jws.extract_compact(token.encode()).headers()
            if str(header.get("typ", "")).lower().removeprefix("application/") != TOKEN_TYPE:
                refuse("it is not an access token")
            key = await self.keys.find(str(header.get("kid", "")))
            if key is None:
                refuse("it is signed by an unknown key")
            claims = jwt.decode(token, key, algorithms=ALGORITHMS).claims
            self._claims.validate(claims)
            return _principal(claims)
        except ExpiredTokenError:
            refuse("the token has expired")
        except (JoseError, ValueError, RecursionError):
            refuse("the token is not valid")


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


_bearer = HTTPBearer(
    auto_error=False, bearerFormat="JWT", scheme_name="access_token", description="An access token (RFC 9068)."
)


async def current_principal(
    request: AppRequest,
    required: SecurityScopes,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """Who calls, once it is certain that their token carries the scopes that the route requires.

    Raises:
        Unauthenticated: no token was shown, or one that is not to be believed.
        Forbidden: a scope is missing.
    """
    if credentials is None:
        raise Unauthenticated("Show an access token.", headers={"WWW-Authenticate": 'Bearer realm="tandem"'})
    principal = await request.state["resources"].tokens.verify(credentials.credentials)
    if missing := [scope for scope in required.scopes if scope not in principal.scopes]:
        challenge = f'Bearer realm="tandem", error="insufficient_scope", scope="{" ".join(required.scopes)}"'
        raise Forbidden(f"The token lacks the scope {' '.join(missing)}.", headers={"WWW-Authenticate": challenge})
    return principal


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]
"""Whoever calls with a good token, whatever its scopes."""
