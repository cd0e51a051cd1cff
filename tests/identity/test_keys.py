"""Signing keys: made on first use, unreadable in the database, rotated without a gap."""

from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client as DjangoClient
from django.utils import timezone
from pydantic import SecretStr

from project.accounts.models import User
from project.clients.models import Client
from project.config import Config, config
from project.identity import keys
from project.identity.lifetimes import ACCESS_TOKEN_TTL_S, JWKS_TTL_S
from project.identity.models import RevocationEvent, SigningKey
from project.identity.tokens import issue_access_token
from tests.identity.flows import Browser, claims, is_active, log_in_at, refresh


@pytest.fixture(autouse=True)
def no_keys(database: str) -> Iterator[None]:
    SigningKey.objects.all().delete()
    yield
    SigningKey.objects.all().delete()


def published_kids() -> list[str]:
    answer: Any = DjangoClient().get("/.well-known/jwks.json")
    return [key["kid"] for key in answer.json()["keys"]]


def rotate(*options: str) -> str:
    output = StringIO()
    call_command("rotate_signing_key", *options, stdout=output)
    return output.getvalue().split()[0]


def pass_time(seconds: float) -> None:
    """Let every key be so much older."""
    for key in SigningKey.objects.all():
        key.signs_from -= timedelta(seconds=seconds)
        key.retires_at = key.retires_at and key.retires_at - timedelta(seconds=seconds)
        key.save()


def test_jwks__first_use__makes_a_key_and_shows_its_public_half() -> None:
    answer: Any = DjangoClient().get("/.well-known/jwks.json")

    (key,) = answer.json()["keys"]
    assert set(key) == {"kty", "n", "e", "use", "alg", "kid"}, "nothing of the private half"
    assert (key["alg"], key["use"]) == ("RS256", "sig")
    assert answer["Cache-Control"] == f"public, max-age={JWKS_TTL_S}"
    assert answer["Access-Control-Allow-Origin"] == "*"


def test_key__in_the_database__is_encrypted() -> None:
    keys.signing_key()

    stored = bytes(SigningKey.objects.get().private_key)
    assert b"PRIVATE KEY" not in stored
    assert stored.startswith(b"gAAAA"), "a Fernet token"


def test_rotation__publishes_first_then_signs_then_retires() -> None:
    old = keys.signing_key().kid
    new = rotate()

    assert set(published_kids()) == {old, new}
    assert keys.signing_key().kid == old, "no verifier may know the new one yet"
    pass_time(JWKS_TTL_S + 1)
    assert keys.signing_key().kid == new
    assert set(published_kids()) == {old, new}, "tokens of the old one still live"
    pass_time(config.max_token_ttl_s)
    assert published_kids() == [new]


def test_rotation__twice_in_a_row__keeps_every_key_that_may_still_sign() -> None:
    first, second, third = keys.signing_key().kid, rotate(), rotate()

    assert set(published_kids()) == {first, second, third}
    pass_time(JWKS_TTL_S + 1)
    assert keys.signing_key().kid == third


def test_tokens__before_and_after_a_rotation__are_all_good(browser: Browser, web: Client) -> None:
    before = log_in_at(web, browser)
    rotate("--algorithm", "ES256")
    pass_time(JWKS_TTL_S + 1)
    after = refresh(web, before["refresh_token"]).json()

    assert is_active(before["access_token"])
    assert is_active(after["access_token"])
    assert claims(after["access_token"])["iss"] == config.base_url
    assert SigningKey.objects.get(algorithm="ES256").public_jwk["crv"] == "P-256"


def test_rotation__compromised__ends_every_token_at_once(browser: Browser, web: Client) -> None:
    tokens = log_in_at(web, browser)
    old = str(keys.signing_key().kid)

    new = rotate("--compromised")

    assert published_kids() == [new]
    assert keys.signing_key().kid == new
    assert not is_active(tokens["access_token"])
    assert RevocationEvent.objects.filter(kind="signer", subject=old).exists(), "for the verifiers"


# SECRET_KEY


@pytest.fixture
def with_secrets(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(secret: str, *fallbacks: str) -> Config:
        changed = config.model_copy(
            update={"secret_key": SecretStr(secret), "secret_key_fallbacks": tuple(map(SecretStr, fallbacks))}
        )
        monkeypatch.setattr(keys, "config", changed)
        keys._private.cache_clear()
        return changed

    yield use
    keys._private.cache_clear()


def test_secret_key__replaced__keys_are_read_with_the_fallback_and_encrypted_anew(with_secrets: Any) -> None:
    with_secrets("first")
    kid = keys.signing_key().kid
    with_secrets("second", "first")
    assert keys.signing_key().kid == kid

    rotate()
    with_secrets("second")

    assert keys.signing_key().kid == kid, "the fallback is needed no more"


def test_secret_key__lost__is_told_with_its_cure(with_secrets: Any, alice: User) -> None:
    with_secrets("first")
    keys.signing_key()
    with_secrets("second")

    with pytest.raises(CommandError, match="put that one into SECRET_KEY_FALLBACKS, or run"):
        call_command("issue_token", alice.email)

    rotate("--compromised")
    assert issue_access_token(alice, (), ttl_s=ACCESS_TOKEN_TTL_S, client_id="tests")


def test_keys__retired__are_still_known_for_logging_out(browser: Browser, web: Client) -> None:
    old = keys.signing_key().kid
    SigningKey.objects.update(retires_at=timezone.now())

    assert old is not None
    assert keys.public_jwk(old) is not None
    assert old not in published_kids()
