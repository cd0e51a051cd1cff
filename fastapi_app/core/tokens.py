"""Access tokens (RFC 9068): verified offline, with the published keys of an issuer that the configuration trusts."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from fastapi_app.core.claims import LARGEST_INTEGER, Claims, base64url_decode, required
from fastapi_app.core.credentials import Credential, Principal, refuse
from fastapi_app.core.jwks import PublishedKey
from fastapi_app.core.revocation import Revocable
from project.config import CLOCK_SKEW_S, MAX_TOKEN_LENGTH, TrustedIssuer

MOST_TRIED = 10
"""Keys that one token is verified with, when several could have signed it. RSA takes some 30 us for each."""


class Keys(Protocol):
    """Where an issuer's public keys are found (``jwks.IssuerKeys``)."""

    async def find(self, kid: str | None) -> Sequence[PublishedKey]:
        """The keys that may have signed a token with this ``kid``, or with none."""
        ...

    async def look_again(self) -> bool:
        """Asks the issuer again, unless that was done lately; whether its keys have changed."""
        ...

    def is_current(self, key: PublishedKey) -> bool:
        """Whether the issuer still publishes ``key``, answered at once."""
        ...


class Subjects(Protocol):
    """Whom an issuer's tokens speak for."""

    async def credential(self, claims: Claims, *, expires_at: float, kid: str | None) -> Credential:
        """What claims prove until ``expires_at``, verified with the key ``kid``.

        Raises:
            Unauthenticated: they mean nobody here, or a claim has a wrong type.
        """
        ...


@dataclass(frozen=True, slots=True)
class Issuer:
    """A trusted issuer at work."""

    settings: TrustedIssuer
    keys: Keys
    subjects: Subjects


@dataclass(frozen=True, slots=True)
class SignedBy:
    """The key that a token was verified with. When it is no longer published, the token is verified again."""

    keys: Keys
    key: PublishedKey

    @property
    def is_current(self) -> bool:
        return self.keys.is_current(self.key)


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """The parts of a JWS in compact form (RFC 7515, section 7.1). Nothing of it is proven yet."""

    header: Claims
    claims: Claims
    signing_input: bytes
    signature: bytes

    @classmethod
    def split(cls, token: str) -> Self:
        """The parts of ``token``. Raises Unauthenticated when it is no such thing."""
        try:
            header, payload, signature = token.split(".")
            decoded = base64url_decode(signature)
        except ValueError:
            refuse("the token is not valid")
        return cls(Claims.decode(header), Claims.decode(payload), f"{header}.{payload}".encode(), decoded)


class TokenVerifier:
    """Verifies access tokens of the issuers that it is given, and of nobody else."""

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        max_length: int = MAX_TOKEN_LENGTH,
        clock_skew_s: float = CLOCK_SKEW_S,
    ) -> None:
        self._issuers = {issuer.settings.issuer: issuer for issuer in issuers}
        self._max_length = max_length
        self._clock_skew_s = clock_skew_s

    async def verify(self, token: str) -> tuple[Credential, SignedBy]:
        """What ``token`` proves, and by whose key.

        Checks, in this order: length, form, issuer, header, claims, key, signature, subject. What costs little comes
        first, so that a token that was made up costs less than one that is good.

        Raises:
            Unauthenticated: it is not to be believed; the message says why, without its content.
            Unavailable: its issuer's keys, or its user, cannot be looked up just now.
        """
        if len(token) > self._max_length:
            refuse("the token is too long")
        unverified = UnverifiedToken.split(token)
        claims = unverified.claims
        issuer = self._issuers.get(claims.text("iss") or "") or refuse("its issuer is not trusted")
        algorithm = _check_header(unverified.header, issuer.settings)
        _check_claims(claims, issuer.settings)
        expires_at = self._check_times(claims)
        key = await _find_signer(unverified, algorithm, issuer.keys)
        credential = await issuer.subjects.credential(claims, expires_at=expires_at, kid=key.kid)
        return credential, SignedBy(issuer.keys, key)

    def _check_times(self, claims: Claims) -> float:
        """Until when the token is believed by this process's clock, which may differ from the issuer's by the skew."""
        now, skew = time.time(), self._clock_skew_s
        expires_at = required(claims.instant("exp")) + skew
        begins_at = max(required(claims.instant("iat")), claims.instant("nbf") or 0.0) - skew
        if expires_at <= now:
            refuse("the token has expired")
        if begins_at > now:
            refuse("the token is not valid yet")
        return expires_at


def _check_header(header: Claims, settings: TrustedIssuer) -> str:
    """The algorithm that a header names, once the header is what the issuer's tokens have.

    Parameters that are not known are ignored, unless they are critical (RFC 7515, section 4). None is known that may
    be critical: with ``b64`` (RFC 7797) the payload would mean something else, and a JWT must not use it.
    """
    algorithm = header.text("alg")
    if algorithm not in settings.algorithms:
        refuse("its algorithm is not allowed")
    if (header.text("typ") or "").lower().removeprefix("application/") not in settings.types:
        refuse("it is not an access token")
    if "crit" in header or "b64" in header:
        refuse("the token is not valid")
    return algorithm


def _check_claims(claims: Claims, settings: TrustedIssuer) -> None:
    required(claims.identifier("sub"))
    for name, value in settings.required.items():
        found = claims.find(name)
        if value not in (found if isinstance(found, list) else [found]):
            refuse("the token is not valid")
    if "aud" not in claims and settings.clients_without_audience:
        if claims.identifier(settings.claims.client_id) not in settings.clients_without_audience:
            refuse("its client needs an audience")
    elif not set(claims.texts("aud")) & set(settings.audiences):
        refuse("the token is not valid for this API")


async def _find_signer(token: UnverifiedToken, algorithm: str, keys: Keys) -> PublishedKey:
    """The published key that ``token`` is signed with.

    A ``kid`` is a hint (RFC 7515, section 4.1.4): a token may have none, several keys may share it, and an issuer may
    give it to a new key. So the issuer is asked again before a signature counts as bad.
    """
    kid = token.header.text("kid")
    while True:
        found = await keys.find(kid)
        suitable = [key for key in found if key.fits(algorithm)][:MOST_TRIED]
        for key in suitable:
            if key.verifies(algorithm, token.signing_input, token.signature):
                return key
        if not await keys.look_again():
            refuse(_reason(found, suitable))


def _reason(found: Sequence[PublishedKey], suitable: Sequence[PublishedKey]) -> str:
    if not found:
        return "it is signed by an unknown key"
    return "the token is not valid" if suitable else "its key is for another algorithm"


class OwnSubjects:
    """Our own tokens: the issuer looked at the user, so the token itself says what they may do."""

    def __init__(self, *, max_ttl_s: float) -> None:
        self._max_ttl_s = max_ttl_s

    async def credential(self, claims: Claims, *, expires_at: float, kid: str | None) -> Credential:
        client_id, token_id = required(claims.identifier("client_id")), required(claims.identifier("jti"))
        if required(claims.instant("exp")) - required(claims.instant("iat")) > self._max_ttl_s:
            refuse("it lives longer than a token may")
        user_id, version = _user(claims, client_id)
        return Credential(
            Principal(user_id, client_id, claims.scopes("scope")),
            expires_at,
            Revocable(
                user=None if user_id is None else str(user_id),
                user_version=version,
                token=token_id,
                family=claims.identifier("family"),
                client=client_id,
                client_version=claims.integer("client_version") or 0,
                signer=kid,
            ),
        )


def _user(claims: Claims, client_id: str) -> tuple[int | None, int]:
    """The user's id and token version; of a machine client, whose subject is itself (RFC 9068, section 5), none."""
    subject, version = required(claims.identifier("sub")), claims.integer("token_version")
    if version is None and subject == client_id:
        return None, 0
    if version is None or not (subject.isascii() and subject.isdecimal()) or int(subject) > LARGEST_INTEGER:
        refuse("the token is not valid")
    return int(subject), version
