"""Tokens that must not be believed."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from fastapi_app.core.errors import Unauthenticated
from fastapi_app.core.security import MAXIMUM_TOKEN_LENGTH, KeyFile, Principal, TokenVerifier

pytestmark = pytest.mark.asyncio

ISSUER = "https://issuer.example"
AUDIENCE = "the-api"
KEY = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
SAME_KEY_FOR_ANYTHING = RSAKey.import_key(KEY.as_pem(private=True))
OTHER_KEY = RSAKey.generate_key(2048, auto_kid=True)

type Changes = dict[str, Any]


@pytest.fixture
def jwks_file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(KeySet([KEY]).as_dict(private=False)))
    return path


@pytest.fixture
def verifier(jwks_file: Path) -> TokenVerifier:
    return TokenVerifier(issuer=ISSUER, audience=AUDIENCE, keys=KeyFile(jwks_file))


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "7", "client_id": "c", "iat": now, "exp": now + 60, "scope": "a b"}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def token(header: Changes | None = None, key: RSAKey = KEY, algorithm: str = "RS256", **changes: Any) -> str:
    head = {"alg": algorithm, "typ": "at+jwt", "kid": KEY.kid, **(header or {})}
    return jwt.encode(head, claims(**changes), key, algorithms=[algorithm])


def by_hand(header: Changes, payload: Changes, signature: str = "") -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, payload))
    return ".".join([*parts, signature])


def signed_with_the_public_key() -> str:
    """The classic confusion: an HMAC whose secret is what everybody knows."""
    unsigned = by_hand({"alg": "HS256", "typ": "at+jwt", "kid": KEY.kid}, claims()).removesuffix(".")
    signature = hmac.digest(KEY.as_pem(private=False), unsigned.encode(), "sha256")
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def tampered() -> str:
    head, _, signature = token().split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims(sub="1")).encode()).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"


async def test_token__good__speaks_for_its_principal(verifier: TokenVerifier) -> None:
    assert await verifier.verify(token()) == Principal(user_id=7, client_id="c", scopes=frozenset({"a", "b"}))
    assert (await verifier.verify(token(scope=None))).scopes == frozenset()
    assert (await verifier.verify(token({"typ": "application/at+jwt"}))).user_id == 7
    assert (await verifier.verify(token(aud=["other", AUDIENCE]))).user_id == 7


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (signed_with_the_public_key, "not valid"),
        (lambda: by_hand({"alg": "none", "typ": "at+jwt", "kid": KEY.kid}, claims()), "not valid"),
        (tampered, "not valid"),
        (lambda: token()[:-4] + "AAAA", "not valid"),
        (lambda: token(key=OTHER_KEY), "not valid"),
        (lambda: token(key=SAME_KEY_FOR_ANYTHING, algorithm="PS256"), "not valid"),
        (lambda: token({"kid": OTHER_KEY.kid}, key=OTHER_KEY), "unknown key"),
        (lambda: token({"kid": ""}), "unknown key"),
        (lambda: token({"kid": OTHER_KEY.kid, "jwk": OTHER_KEY.as_dict(private=False)}, key=OTHER_KEY), "not valid"),
        (lambda: token({"jku": "https://evil.example/jwks", "kid": "x"}), "unknown key"),
        (lambda: token({"typ": "JWT"}), "not an access token"),
        (lambda: token({"typ": "id_token"}), "not an access token"),
        (lambda: token(exp=int(time.time()) - 1), "expired"),
        (lambda: token(exp=None), "not valid"),
        (lambda: token(exp="tomorrow"), "not valid"),
        (lambda: token(iat=int(time.time()) + 3600), "not valid"),
        (lambda: token(nbf=int(time.time()) + 3600), "not valid"),
        (lambda: token(iss="https://evil.example"), "not valid"),
        (lambda: token(iss=None), "not valid"),
        (lambda: token(aud="another-api"), "not valid"),
        (lambda: token(aud=["another-api"]), "not valid"),
        (lambda: token(aud=None), "not valid"),
        (lambda: token(sub=None), "not valid"),
        (lambda: token(sub="root"), "not valid"),
        (lambda: token(client_id=None), "not valid"),
        (lambda: "x" * (MAXIMUM_TOKEN_LENGTH + 1), "too long"),
        (lambda: "", "not valid"),
        (lambda: "a.b", "not valid"),
        (lambda: "a.b.c", "not valid"),
        (lambda: "é.é.é", "not valid"),
        (lambda: by_hand({}, {}), "not valid"),
        (lambda: base64.urlsafe_b64encode(b"[" * 3000).decode() + ".e30.", "not valid"),
    ],
)  # fmt: skip
async def test_token__not_to_be_believed__is_refused_without_repeating_it(
    make: Callable[[], str], reason: str, verifier: TokenVerifier
) -> None:
    bad = make()

    with pytest.raises(Unauthenticated, match=reason) as refusal:
        await verifier.verify(bad)

    assert refusal.value.headers is not None
    assert 'error="invalid_token"' in refusal.value.headers["WWW-Authenticate"]
    assert not bad or bad not in str(refusal.value)


async def test_keys__no_file_yet__knows_none_until_it_is_there(jwks_file: Path, tmp_path: Path) -> None:
    late = tmp_path / "late.json"
    keys = KeyFile(late)
    assert await keys.find(str(KEY.kid)) is None

    jwks_file.rename(late)

    found = await keys.find(str(KEY.kid))
    assert found is not None
    assert found.kid == KEY.kid


async def test_keys__replaced__are_read_again(jwks_file: Path) -> None:
    keys = KeyFile(jwks_file)
    assert await keys.find(str(KEY.kid))

    jwks_file.write_text(json.dumps(KeySet([OTHER_KEY]).as_dict(private=False)))

    assert await keys.find(str(OTHER_KEY.kid)), "an unknown key is looked for at once"
    assert await keys.find(str(KEY.kid)) is None, "a key that is no longer published is no longer believed"


async def test_token__verified_before__is_not_verified_again_and_not_believed_longer(
    verifier: TokenVerifier, jwks_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = token()
    principal = await verifier.verify(good)
    with monkeypatch.context() as patch:
        patch.setattr(jwt, "decode", None)
        assert await verifier.verify(good) is principal

    with monkeypatch.context() as patch:
        patch.setattr(time, "time", partial(float, claims()["exp"] + 1))
        with pytest.raises(Unauthenticated, match="expired"):
            await verifier.verify(good)

    monkeypatch.setattr(KeyFile, "LOOK_EVERY_S", 0)
    verifier.keys = KeyFile(jwks_file)
    assert await verifier.verify(good) == principal
    jwks_file.write_text(json.dumps(KeySet([OTHER_KEY]).as_dict(private=False)))
    with pytest.raises(Unauthenticated, match="unknown key"):
        await verifier.verify(good)


async def test_tokens__many__are_remembered_up_to_a_bound(
    verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenVerifier, "MOST_REMEMBERED", 2)

    for number in range(5):
        await verifier.verify(token(jti=str(number)))

    assert len(verifier._verified) == 2
