"""Issuers' keys: when they are fetched, when they are not, and what holds while the issuer is away."""

import asyncio
import logging
import time

import pytest
from joserfc.jwk import RSAKey

from fastapi_app.core.errors import Unavailable
from fastapi_app.core.jwks import IssuerKeys
from tests.core.issuer import ISSUER, KEY, OTHER_KEY, Publisher

pytestmark = pytest.mark.asyncio


class Clock:
    """The monotonic clock, put forward by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = 0.0
        real = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: real() + self._ahead)

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def test_keys__many_ask_at_once__are_fetched_once() -> None:
    publisher = Publisher()
    keys = publisher.issuer_keys()

    found = await asyncio.gather(*(keys.find(str(KEY.kid)) for _ in range(20)))

    assert len({key for keys in found for key in keys}) == 1
    assert publisher.fetches == ["/jwks"]


async def test_keys__twenty_forged_ids__cause_one_fetch_in_ten_seconds(clock: Clock) -> None:
    publisher = Publisher()
    keys = publisher.issuer_keys()
    await keys.find(str(KEY.kid))
    clock.advance(IssuerKeys.COOL_DOWN_S)

    assert await asyncio.gather(*(keys.find(f"forged-{number}") for number in range(20))) == [[]] * 20
    for number in range(20):
        assert not await keys.find(f"later-{number}")

    assert len(publisher.fetches) == 2, "one for the keys, one for all the forged ids"
    clock.advance(IssuerKeys.COOL_DOWN_S)
    await keys.find("again")
    assert len(publisher.fetches) == 3


async def test_keys__rotated__the_new_one_is_found_at_once_and_the_old_one_goes(clock: Clock) -> None:
    publisher = Publisher(KEY)
    keys = publisher.issuer_keys()
    (old,) = await keys.find(str(KEY.kid))
    assert keys.is_current(old)

    publisher.keys = (OTHER_KEY,)
    clock.advance(IssuerKeys.COOL_DOWN_S)
    assert await keys.find(str(OTHER_KEY.kid)), "an unknown key is looked for"

    assert not keys.is_current(old)
    assert not await keys.find(str(KEY.kid))


async def test_keys__lifetime_is_over__are_fetched_again_and_stay_the_same_objects(clock: Clock) -> None:
    publisher = Publisher()
    keys = publisher.issuer_keys()
    (key,) = await keys.find(str(KEY.kid))
    clock.advance(IssuerKeys.LIFETIME_S)

    assert not keys.is_current(key)
    assert await keys.find(str(KEY.kid)) == [key]
    assert keys.is_current(key)
    assert len(publisher.fetches) == 2


async def test_keys__issuer_is_down__are_believed_for_a_day_and_told_once(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = Publisher()
    keys = publisher.issuer_keys()
    await keys.find(str(KEY.kid))
    publisher.is_down = True

    for _ in range(23):
        clock.advance(60 * 60)
        assert await keys.find(str(KEY.kid)), "the last known keys are believed"
    assert len(caplog.records) == 1
    assert f"the keys of {ISSUER} cannot be fetched" in caplog.text

    clock.advance(60 * 60)
    with pytest.raises(Unavailable):
        await keys.find(str(KEY.kid))

    publisher.is_down = False
    clock.advance(IssuerKeys.COOL_DOWN_S)
    with caplog.at_level(logging.INFO):
        assert await keys.find(str(KEY.kid))
    assert "publishes its keys again" in caplog.text


async def test_keys__issuer_never_answered__is_a_503_and_no_storm() -> None:
    publisher = Publisher()
    publisher.is_down = True
    keys = publisher.issuer_keys()

    for _ in range(20):
        with pytest.raises(Unavailable):
            await keys.find(str(KEY.kid))

    assert len(publisher.fetches) == 1


async def test_keys__the_first_who_asks_is_cancelled__the_others_get_them() -> None:
    keys = Publisher().issuer_keys()
    first, second = (asyncio.create_task(keys.find(str(KEY.kid))) for _ in range(2))
    await asyncio.sleep(0)

    first.cancel()

    assert await second


async def test_keys__discovery__leads_to_them() -> None:
    publisher = Publisher()
    publisher.documents["/.well-known/openid-configuration"] = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks"}

    assert await publisher.issuer_keys(jwks_uri=None).find(str(KEY.kid))
    assert publisher.fetches == ["/.well-known/openid-configuration", "/jwks"]


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example", "jwks_uri": f"{ISSUER}/jwks"},
        {"issuer": ISSUER, "jwks_uri": "http://issuer.example/jwks"},
        {"issuer": ISSUER},
        [],
    ],
)
async def test_keys__discovery_of_another_or_without_tls__is_not_followed(document: object) -> None:
    publisher = Publisher()
    publisher.documents["/.well-known/openid-configuration"] = document

    with pytest.raises(Unavailable):
        await publisher.issuer_keys(jwks_uri=None).find(str(KEY.kid))

    assert "/jwks" not in publisher.fetches


async def test_keys__some_cannot_be_read__the_others_are() -> None:
    publisher = Publisher()
    encrypting = RSAKey.generate_key(2048, {"use": "enc"}, auto_kid=True)
    publisher.documents["/jwks"] = {
        "keys": [
            {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
            {"kty": "lattice", "kid": "from the future"},
            encrypting.as_dict(private=False),
            "no key at all",
            {"kty": ["RSA"], "kid": "broken"},
            KEY.as_dict(private=False),
        ]
    }
    keys = publisher.issuer_keys()

    assert await keys.find(str(KEY.kid))
    for unusable in ("broken", "from the future", str(encrypting.kid)):
        assert not await keys.find(unusable)


@pytest.mark.attack
@pytest.mark.parametrize(
    "document",
    [
        {"keys": {"kty": "RSA"}},
        {"keys": "RSA"},
        {"keys": None},
        {"kty": "RSA"},
        ["keys"],
        "keys",
        None,
        {"keys": [KEY.as_dict(private=False)] * 1000},
        {"keys": [], "padding": "x" * IssuerKeys.MAX_DOCUMENT_BYTES},
    ],
    ids=["object", "text", "null", "no keys", "list", "just text", "just null", "many keys", "large"],
)
async def test_keys__a_document_that_is_no_key_set_or_too_large__leaves_the_former_keys(
    document: object, clock: Clock
) -> None:
    publisher = Publisher()
    keys = publisher.issuer_keys()
    former = await keys.find(str(KEY.kid))
    publisher.documents["/jwks"] = document
    clock.advance(IssuerKeys.LIFETIME_S)

    assert list(await keys.find(str(KEY.kid))) == list(former)
    assert len(publisher.fetches) == 2


async def test_keys__closed_while_a_fetch_is_under_way__ends() -> None:
    keys = Publisher().issuer_keys()
    asking = asyncio.create_task(keys.find(str(KEY.kid)))
    await asyncio.sleep(0)

    await asyncio.wait_for(keys.close(), timeout=1)

    with pytest.raises(asyncio.CancelledError):
        await asking
