"""Access tokens (RFC 9068): verified offline, with the published keys of an issuer that the configuration trusts."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import Key

from fastapi_app.core.credentials import Credential, Principal, refuse
from fastapi_app.core.revocation import Revocable
from project.config import TrustedIssuer

MAXIMUM_TOKEN_LENGTH = 8192
"""Characters; longer than a token with any sane number of scopes, short enough to refuse before decoding."""
CLOCK_SKEW_S = 5
"""How far the clocks of an issuer and of this process may be apart."""

type Claims = Mapping[str, Any]


class Keys(Protocol):
    """Where an issuer's public keys are found (``jwks.IssuerKeys``)."""

    async def find(self, kid: str) -> Key | None:
        """The key with this id, or None."""
        ...

    def is_current(self, kid: str, key: Key) -> bool:
        """Whether ``key`` still is what the issuer publishes as ``kid``, answered at once."""
        ...


class Subjects(Protocol):
    """Whom an issuer's tokens speak for."""

    async def credential(self, claims: Claims, *, kid: str) -> Credential:
        """What claims prove, verified with the key ``kid``. Raises Unauthenticated when they mean nobody here."""
        ...


@dataclass(frozen=True, slots=True)
class Issuer:
    """A trusted issuer at work."""

    settings: TrustedIssuer
    keys: Keys
    subjects: Subjects


@dataclass(frozen=True, slots=True)
class SignedBy:
    """The key that a token was verified with; once it is published no more, the token is verified again."""

    keys: Keys
    kid: str
    key: Key

    @property
    def is_current(self) -> bool:
        return self.keys.is_current(self.kid, self.key)


class TokenVerifier:
    """Verifies access tokens of the issuers that it is given, and of nobody else."""

    def __init__(self, issuers: Iterable[Issuer]) -> None:
        self._issuers = {issuer.settings.issuer: (issuer, _demands(issuer.settings)) for issuer in issuers}

    async def verify(self, token: str) -> tuple[Credential, SignedBy]:
        """What ``token`` proves, and by whose key.

        Checks, in this order: length, issuer, algorithm, type, key, signature, claims, subject.

        Raises:
            Unauthenticated: it is not to be believed; the message says why, without its content.
            Unavailable: its issuer's keys, or its user, cannot be looked up just now.
        """
        if len(token) > MAXIMUM_TOKEN_LENGTH:
            refuse("the token is too long")
        try:
            unverified = jws.extract_compact(token.encode())
            header, payload = unverified.headers(), json.loads(unverified.payload)
            name = payload.get("iss") if isinstance(payload, dict) else None
            issuer, demands = self._issuers.get(str(name)) or refuse("its issuer is not trusted")
            signed_by = await self._find_key(header, issuer)
            # Headers that are not known are ignored, unless they are critical (RFC 7515, section 4).
            registry = jws.JWSRegistry(algorithms=issuer.settings.algorithms, strict_check_header=False)
            claims = jwt.decode(token, signed_by.key, registry=registry).claims
            demands.validate(claims)
        except ExpiredTokenError:
            refuse("the token has expired")
        except (JoseError, ValueError, RecursionError):
            refuse("the token is not valid")
        return await issuer.subjects.credential(claims, kid=signed_by.kid), signed_by

    @staticmethod
    async def _find_key(header: Mapping[str, Any], issuer: Issuer) -> SignedBy:
        algorithm = header.get("alg")
        if algorithm not in issuer.settings.algorithms:
            refuse("its algorithm is not allowed")
        if str(header.get("typ", "")).lower().removeprefix("application/") not in issuer.settings.types:
            refuse("it is not an access token")
        kid = str(header.get("kid", ""))
        key = await issuer.keys.find(kid)
        if key is None:
            refuse("it is signed by an unknown key")
        if key.get("alg", algorithm) != algorithm:
            refuse("its key is for another algorithm")
        return SignedBy(issuer.keys, kid, key)


def _demands(settings: TrustedIssuer) -> jwt.JWTClaimsRegistry:
    demands: dict[str, Any] = {
        **{name: {"essential": True, "value": value} for name, value in settings.required.items()},
        **{name: {"essential": True} for name in ("exp", "iat", "sub")},
        "iss": {"essential": True, "value": settings.issuer},
        "aud": {"essential": True, "values": list(settings.audiences)},
    }
    return jwt.JWTClaimsRegistry(leeway=CLOCK_SKEW_S, **demands)


def read(claims: Claims, name: str) -> Any:
    """The claim of this name, or of this path of names with dots between; None when there is none."""
    if name in claims:  # Auth0's names are addresses, which have dots of their own.
        return claims[name]
    value: Any = claims
    for step in name.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def read_scopes(claims: Claims, name: str) -> frozenset[str]:
    """The scopes in a claim: separated by spaces, or a list."""
    value = read(claims, name) or ()
    return frozenset(value.split() if isinstance(value, str) else map(str, value))


class OwnSubjects:
    """Our own tokens: the issuer looked at the user, so the token itself says what they may do."""

    def __init__(self, *, max_ttl_s: float) -> None:
        self._max_ttl_s = max_ttl_s

    async def credential(self, claims: Claims, *, kid: str) -> Credential:
        client_id, token_id = (str(claims.get(name) or "") for name in ("client_id", "jti"))
        issued_at, expires_at = float(claims["iat"]), float(claims["exp"])
        if expires_at - issued_at > self._max_ttl_s:
            refuse("it lives longer than a token may")
        if not (client_id and token_id):
            refuse("the token is not valid")
        user_id, version = _user(claims, client_id)
        return Credential(
            Principal(user_id, client_id, read_scopes(claims, "scope")),
            expires_at,
            Revocable(
                user=None if user_id is None else str(user_id),
                user_version=version,
                token=token_id,
                family=claims.get("family"),
                client=client_id,
                issued_at=issued_at,
                signer=kid,
            ),
        )


def _user(claims: Claims, client_id: str) -> tuple[int | None, int]:
    """The user's id and token version; of a machine client, whose subject is itself (RFC 9068, section 5), none."""
    subject, version = claims["sub"], claims.get("token_version")
    if version is None and subject == client_id:
        return None, 0
    if not isinstance(version, int) or not subject.isdecimal():
        refuse("the token is not valid")
    return int(subject), version
