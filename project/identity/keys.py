"""The keys that sign tokens: rows of the database, so that every process has them and none needs a restart.

A key's life: it is published at once, signs from ``signs_from`` on, when every verifier has read the keys again, and is
published until ``retires_at``, when the last token that it signed has expired.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from joserfc.jwk import ECKey, Key, RSAKey

from project.config import config
from project.identity.lifetimes import JWKS_TTL_S
from project.identity.models import SigningKey
from project.identity.revocation import end_signing_key

RSA_BITS = 2048
EC_CURVE = "P-256"
Algorithm = SigningKey.Algorithm


class KeyUnreadable(RuntimeError):
    """The private half was encrypted with a secret key that is neither SECRET_KEY nor a fallback."""


def signing_key() -> Key:
    """The private key that signs now; the first one is made here. It carries its ``kid`` and ``alg``.

    Raises:
        KeyUnreadable: SECRET_KEY was replaced, and the former one is not among SECRET_KEY_FALLBACKS.
    """
    row = _signing(timezone.now()).first() or _make_first()
    return _private(str(row.kid), str(row.algorithm), bytes(row.private_key))


def published() -> list[dict[str, Any]]:
    """The public keys that a verifier should know (RFC 7517): those that sign, will sign, or have lately signed."""
    now = timezone.now()
    if not _signing(now).exists():
        _make_first()
    return [row.public_jwk for row in _not_retired(now).order_by("-signs_from")]


def rotate(algorithm: str | None = None, *, compromised: bool = False) -> SigningKey:
    """Publish a new key, which signs once every verifier knows it; the present ones retire once their tokens are over.

    Args:
        algorithm: of the new key; by default that of the key that signs now.
        compromised: somebody else may have the keys, or nobody can read them: all are deleted, the new one signs at
            once, and no token of theirs is good from now on.
    """
    with _alone():
        now = timezone.now()
        latest = _not_retired(now).order_by("-signs_from").first()
        algorithm = algorithm or (latest.algorithm if latest else Algorithm.RS256)
        if compromised:
            for key in SigningKey.objects.all():
                end_signing_key(str(key.kid), reason="the signing key was compromised")
                key.delete()
        if compromised or latest is None:
            return _make(algorithm, now)
        signs_from = now + timedelta(seconds=JWKS_TTL_S)
        over = signs_from + timedelta(seconds=config.max_token_ttl_s)
        _not_retired(now).filter(Q(retires_at=None) | Q(retires_at__gt=over)).update(retires_at=over)
        _encrypt_anew()
        return _make(algorithm, signs_from)


def public_jwk(kid: str) -> dict[str, Any] | None:
    """The public key with this id, retired or not: an ID token tells who somebody was long after it expired."""
    row = SigningKey.objects.filter(kid=kid).first()
    return row.public_jwk if row else None


def _not_retired(now: datetime) -> QuerySet[SigningKey]:
    return SigningKey.objects.filter(Q(retires_at=None) | Q(retires_at__gt=now))


def _signing(now: datetime) -> QuerySet[SigningKey]:
    return _not_retired(now).filter(signs_from__lte=now).order_by("-signs_from", "-id")


def _make_first() -> SigningKey:
    with _alone():
        now = timezone.now()
        return _signing(now).first() or _make(Algorithm.RS256, now)


def _make(algorithm: str, signs_from: datetime) -> SigningKey:
    parameters: Any = {"use": "sig", "alg": algorithm}
    key = (
        RSAKey.generate_key(RSA_BITS, parameters)
        if algorithm == Algorithm.RS256
        else ECKey.generate_key(EC_CURVE, parameters)
    )
    key.ensure_kid()
    return SigningKey.objects.create(
        kid=str(key.kid),
        algorithm=algorithm,
        public_jwk=key.as_dict(private=False),
        private_key=_fernet().encrypt(key.as_pem(private=True)),
        signs_from=signs_from,
    )


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time makes keys; SQLite's write lock already sees to that."""
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"LOCK TABLE {SigningKey._meta.db_table} IN SHARE ROW EXCLUSIVE MODE")
        yield


def _encrypt_anew() -> None:
    """Encrypt with today's secret key what a fallback can still read, so that the fallback can go."""
    for row in SigningKey.objects.all():
        try:
            row.private_key = _fernet().rotate(bytes(row.private_key))
        except InvalidToken:
            continue  # Its public half may still be needed; its private half is lost.
        row.save(update_fields=["private_key"])


@lru_cache(maxsize=8)
def _private(kid: str, algorithm: str, encrypted: bytes) -> Key:
    try:
        pem = _fernet().decrypt(encrypted)
    except InvalidToken:
        raise KeyUnreadable(
            f"the signing key {kid} was encrypted with another SECRET_KEY: put that one into SECRET_KEY_FALLBACKS, "
            "or run 'python manage.py rotate_signing_key --compromised', which ends every token"
        ) from None
    kind = RSAKey if algorithm == Algorithm.RS256 else ECKey
    return kind.import_key(pem, {"use": "sig", "alg": algorithm, "kid": kid})


def _fernet() -> MultiFernet:
    secrets = [config.secret_key, *config.secret_key_fallbacks]
    return MultiFernet([Fernet(_derived(secret.get_secret_value())) for secret in secrets])


@lru_cache(maxsize=8)
def _derived(secret: str) -> bytes:
    """A key for this one use (RFC 5869), so that what Django signs with the same secret tells nothing about it."""
    derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"tandem: private halves of signing keys")
    return base64.urlsafe_b64encode(derive.derive(secret.encode()))
