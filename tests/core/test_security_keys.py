"""Which key a token is verified with: without a ``kid``, with one that several keys share, or that a new key reuses."""

import asyncio
import time
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from fastapi_app.core.credentials import Principal
from fastapi_app.core.errors import Unauthenticated
from fastapi_app.core.jwks import IssuerKeys
from fastapi_app.core.security import Authenticator
from fastapi_app.core.tokens import MOST_TRIED, Issuer, OwnSubjects, TokenVerifier
from tests.core.issuer import KEY, OTHER_KEY, TRUSTED, Publisher, claims
from tests.core.test_security import NoDatabase, NoKeys
from tests.core.test_security_jwks import Clock

pytestmark = pytest.mark.asyncio

FORGER = RSAKey.generate_key(2048)
EC_KEY = ECKey.generate_key("P-256")
ALGORITHMS = ("RS256", "ES256", "Ed25519")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def jwk(key: Key, **members: Any) -> dict[str, Any]:
    """The public key as it is published; None takes a member away."""
    published = {**key.as_dict(private=False), **members}
    return {name: value for name, value in published.items() if value is not None}


def publishing(*keys: dict[str, Any]) -> Publisher:
    publisher = Publisher()
    publisher.documents["/jwks"] = {"keys": list(keys)}
    return publisher


def trusting(publisher: Publisher) -> TokenVerifier:
    settings = TRUSTED.model_copy(update={"algorithms": ALGORITHMS})
    return TokenVerifier([Issuer(settings, publisher.issuer_keys(), OwnSubjects(max_ttl_s=3600))])


def signed(key: Key, algorithm: str = "RS256", **header: Any) -> str:
    """A token, whose header has no ``kid`` unless it is given."""
    return jwt.encode({"alg": algorithm, "typ": "at+jwt", **header}, claims(), key, algorithms=[algorithm])


async def user(verifier: TokenVerifier, shown: str) -> int | None:
    principal: Principal = (await verifier.verify(shown))[0].principal
    return principal.user_id


# Without a kid


async def test_token__without_kid__is_verified_with_the_keys_that_fit() -> None:
    verifier = trusting(publishing(jwk(EC_KEY, kid="ec"), jwk(OTHER_KEY, use="enc"), jwk(KEY)))

    assert await user(verifier, signed(KEY)) == 7
    assert await user(verifier, signed(EC_KEY, "ES256")) == 7
    for forged in (signed(FORGER), signed(OTHER_KEY)):
        with pytest.raises(Unauthenticated, match="not valid"):
            await verifier.verify(forged)
    with pytest.raises(Unauthenticated, match="another algorithm"):
        await verifier.verify(signed(OKPKey.generate_key("Ed25519"), "Ed25519"))


@pytest.mark.parametrize("header", [{}, {"kid": "named-only-in-the-token"}])
async def test_key__published_without_kid__verifies(header: dict[str, str]) -> None:
    verifier = trusting(publishing(jwk(KEY, kid=None)))

    assert await user(verifier, signed(KEY, **header)) == 7
    with pytest.raises(Unauthenticated, match="not valid"):
        await verifier.verify(signed(FORGER, **header))


async def test_key__signed_without_kid__is_remembered_until_it_is_withdrawn(clock: Clock) -> None:
    publisher = publishing(jwk(KEY, kid=None))
    authenticator = Authenticator(trusting(publisher), NoKeys(), NoDatabase())
    good = signed(KEY)
    assert await authenticator.authenticate(good) is await authenticator.authenticate(good)

    publisher.documents["/jwks"] = {"keys": [jwk(OTHER_KEY, kid=None)]}
    clock.advance(IssuerKeys.LIFETIME_S)

    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(good)


async def test_keys__several_of_one_kid__are_told_apart_by_their_type() -> None:
    """RFC 7517, section 4.5: keys of different types may have one ``kid``, where they are alternatives."""
    verifier = trusting(publishing(jwk(KEY, kid="k"), jwk(EC_KEY, kid="k"), jwk(OTHER_KEY, kid="k")))

    for key, algorithm in ((KEY, "RS256"), (OTHER_KEY, "RS256"), (EC_KEY, "ES256")):
        assert await user(verifier, signed(key, algorithm, kid="k")) == 7
    with pytest.raises(Unauthenticated, match="not valid"):
        await verifier.verify(signed(FORGER, kid="k"))


@pytest.mark.parametrize(
    "members",
    [{"use": "enc"}, {"alg": "RS512"}, {"alg": "RSA-OAEP"}, {"key_ops": ["encrypt"], "use": None}],
    ids=repr,
)
async def test_key__for_something_else__verifies_nothing(members: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        await trusting(publishing(jwk(KEY, **members))).verify(signed(KEY))


async def test_key__of_another_curve__verifies_nothing() -> None:
    larger = ECKey.generate_key("P-384")

    with pytest.raises(Unauthenticated, match="another algorithm"):
        await trusting(publishing(jwk(larger, kid="k"))).verify(signed(EC_KEY, "ES256", kid="k"))


@pytest.mark.attack
async def test_token__without_kid__is_tried_with_few_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [jwk(OTHER_KEY, kid=f"k{number}", alg="RS256") for number in range(100)]
    tried = []
    rsa = jws.JWSRegistry.algorithms["RS256"]
    verify = rsa.verify

    def counting(message: bytes, signature: bytes, key: Key) -> bool:
        tried.append(key)
        return verify(message, signature, key)

    monkeypatch.setattr(rsa, "verify", counting)

    with pytest.raises(Unauthenticated):
        await trusting(publishing(*many)).verify(signed(FORGER))

    assert len(tried) == MOST_TRIED


# A kid that is reused


async def test_kid__reused_for_a_new_key__is_looked_up_and_verified_again(clock: Clock) -> None:
    publisher = publishing(jwk(OTHER_KEY, kid="main"))
    verifier = trusting(publisher)
    assert await user(verifier, signed(OTHER_KEY, kid="main")) == 7

    publisher.documents["/jwks"] = {"keys": [jwk(KEY, kid="main", alg="RS256")]}
    clock.advance(IssuerKeys.COOL_DOWN_S)

    assert await user(verifier, signed(KEY, kid="main")) == 7
    assert len(publisher.fetches) == 2
    with pytest.raises(Unauthenticated):
        await verifier.verify(signed(OTHER_KEY, kid="main"))


@pytest.mark.parametrize("header", [{"kid": "main"}, {}])
async def test_kid__reused__many_tokens_at_once_wait_for_one_fetch(header: dict[str, str], clock: Clock) -> None:
    publisher = publishing(jwk(OTHER_KEY, kid="main"))
    verifier = trusting(publisher)
    await verifier.verify(signed(OTHER_KEY, kid="main"))
    publisher.documents["/jwks"] = {"keys": [jwk(KEY, kid="main", alg="RS256")]}
    clock.advance(IssuerKeys.COOL_DOWN_S)

    found = await asyncio.gather(*(user(verifier, signed(KEY, **header)) for _ in range(20)))

    assert found == [7] * 20
    assert len(publisher.fetches) == 2


@pytest.mark.attack
@pytest.mark.parametrize("header", [{"kid": "main"}, {}])
async def test_forged_signatures__many__cause_one_fetch_in_a_cool_down(header: dict[str, str], clock: Clock) -> None:
    publisher = publishing(jwk(KEY, kid="main", alg="RS256"))
    verifier = trusting(publisher)
    await verifier.verify(signed(KEY, kid="main"))
    clock.advance(IssuerKeys.COOL_DOWN_S)

    async def is_refused() -> bool:
        try:
            await verifier.verify(signed(FORGER, **header))
        except Unauthenticated:
            return True
        return False

    assert all(await asyncio.gather(*(is_refused() for _ in range(20))))
    assert all([await is_refused() for _ in range(20)])

    assert len(publisher.fetches) == 2
    assert await user(verifier, signed(KEY, kid="main")) == 7


@pytest.mark.attack
async def test_forged_signature__while_the_issuer_is_away__is_a_401_and_good_tokens_stay_good(clock: Clock) -> None:
    publisher = publishing(jwk(KEY, kid="main", alg="RS256"))
    verifier = trusting(publisher)
    await verifier.verify(signed(KEY, kid="main"))
    publisher.is_down = True
    clock.advance(IssuerKeys.COOL_DOWN_S)

    with pytest.raises(Unauthenticated):
        await verifier.verify(signed(FORGER, kid="main"))

    assert await user(verifier, signed(KEY, kid="main")) == 7


@pytest.mark.attack
async def test_forged_token__expired_or_for_another_api__asks_the_issuer_nothing(clock: Clock) -> None:
    publisher = publishing(jwk(KEY, kid="main", alg="RS256"))
    verifier = trusting(publisher)

    for change in ({"exp": int(time.time()) - 1000}, {"aud": "another"}, {"sub": 7}, {"iat": "now"}):
        forged = jwt.encode({"alg": "RS256", "typ": "at+jwt", "kid": "x"}, {**claims(), **change}, FORGER)
        with pytest.raises(Unauthenticated):
            await verifier.verify(forged)

    assert publisher.fetches == []
