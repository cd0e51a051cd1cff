"""Tokens that must not be believed."""

import base64
import hmac
import json
import time
import uuid
from collections.abc import Callable

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from joserfc.jws import JWSRegistry

from fastapi_app.core.credentials import Principal
from fastapi_app.core.errors import Unauthenticated
from fastapi_app.core.tokens import Issuer, OwnSubjects, TokenVerifier
from project.config import MAX_TOKEN_LENGTH
from tests.core.issuer import AUDIENCE, ISSUER, KEY, OTHER_KEY, TRUSTED, Publisher, by_hand, claims, token

pytestmark = pytest.mark.asyncio

SAME_KEY_FOR_ANYTHING = RSAKey.import_key(KEY.as_pem(private=True))
ES256_KEY = ECKey.generate_key("P-256", auto_kid=True)
HEADER = {"alg": "RS256", "typ": "at+jwt", "kid": KEY.kid}
DAY_S = 24 * 60 * 60


def trusting(publisher: Publisher, **changes: object) -> TokenVerifier:
    settings = TRUSTED.model_copy(update=changes)
    return TokenVerifier([Issuer(settings, publisher.issuer_keys(), OwnSubjects(max_ttl_s=DAY_S))])


@pytest.fixture
def verifier() -> TokenVerifier:
    return trusting(Publisher())


async def principal(verifier: TokenVerifier, token: str) -> Principal:
    credential, _signed_by = await verifier.verify(token)
    return credential.principal


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
    assert await principal(verifier, token()) == Principal(user_id=7, client_id="c", scopes=frozenset({"a", "b"}))
    assert (await principal(verifier, token(scope=None))).scopes == frozenset()
    assert (await principal(verifier, token({"typ": "application/at+jwt"}))).user_id == 7
    assert (await principal(verifier, token(aud=["other", AUDIENCE]))).user_id == 7


async def test_token__of_a_machine__speaks_for_its_client_and_no_user(verifier: TokenVerifier) -> None:
    machine = await principal(verifier, token(sub="7", client_id="7", token_version=None))

    assert machine == Principal(user_id=None, client_id="7", scopes=frozenset({"a", "b"}))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (signed_with_the_public_key, "algorithm is not allowed"),
        (lambda: by_hand({"alg": "none", "typ": "at+jwt", "kid": KEY.kid}, claims()), "algorithm is not allowed"),
        (lambda: by_hand({"alg": ["RS256"], "typ": "at+jwt", "kid": KEY.kid}, claims()), "not valid|not allowed"),
        (tampered, "not valid"),
        (lambda: token()[:-4] + "AAAA", "not valid"),
        (lambda: token(key=OTHER_KEY), "not valid"),
        (lambda: token(key=SAME_KEY_FOR_ANYTHING, algorithm="PS256"), "algorithm is not allowed"),
        (lambda: token({"kid": OTHER_KEY.kid}, key=OTHER_KEY), "unknown key"),
        (lambda: token({"kid": ""}), "unknown key"),
        (lambda: token({"jku": "https://evil.example/jwks", "kid": "x"}), "unknown key"),
        (lambda: token({"typ": "JWT"}), "not an access token"),
        (lambda: token({"typ": "id_token"}), "not an access token"),
        (lambda: token({"typ": ""}), "not an access token"),
        (lambda: by_hand({**HEADER, "crit": ["x"], "x": 1}, claims(), "AAAA"), "not valid"),
        (lambda: token(exp=int(time.time()) - 70), "expired"),
        (lambda: token(exp=None), "not valid"),
        (lambda: token(exp="tomorrow"), "not valid"),
        (lambda: token(exp=int(time.time()) + DAY_S + 60), "lives longer"),
        (lambda: token(iat=int(time.time()) + 3600), "not valid"),
        (lambda: token(iat=None), "not valid"),
        (lambda: token(nbf=int(time.time()) + 3600), "not valid"),
        (lambda: token(iss="https://evil.example"), "issuer is not trusted"),
        (lambda: token(iss=None), "issuer is not trusted"),
        (lambda: token(iss=[ISSUER]), "not valid"),
        (lambda: token(aud="another-api"), "not valid"),
        (lambda: token(aud=["another-api"]), "not valid"),
        (lambda: token(aud=None), "not valid"),
        (lambda: token(sub=None), "not valid"),
        (lambda: token(sub="root"), "not valid"),
        (lambda: token(token_version=None), "not valid"),
        (lambda: token(token_version="0"), "not valid"),
        (lambda: token(client_id=None), "not valid"),
        (lambda: token(jti=None), "not valid"),
        (lambda: "x" * (MAX_TOKEN_LENGTH + 1), "too long"),
        (lambda: "", "not valid"),
        (lambda: "a.b", "not valid"),
        (lambda: "a.b.c", "not valid"),
        (lambda: "é.é.é", "not valid"),
        (lambda: by_hand({}, {}), "not trusted"),
        (lambda: by_hand({"alg": "RS256"}, ["iss"]), "not valid"),
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


async def test_token__of_several_issuers__is_believed_for_its_own_only() -> None:
    other = TRUSTED.model_copy(update={"issuer": "https://other.example"})
    verifier = TokenVerifier(
        [
            Issuer(TRUSTED, Publisher(KEY).issuer_keys(), OwnSubjects(max_ttl_s=DAY_S)),
            Issuer(other, Publisher(OTHER_KEY).issuer_keys(), OwnSubjects(max_ttl_s=DAY_S)),
        ]
    )
    assert (await principal(verifier, token())).user_id == 7
    assert (
        await principal(verifier, token({"kid": OTHER_KEY.kid}, key=OTHER_KEY, iss="https://other.example"))
    ).user_id == 7

    with pytest.raises(Unauthenticated, match="unknown key"):
        await verifier.verify(token({"kid": OTHER_KEY.kid}, key=OTHER_KEY))


async def test_token__es256__is_believed_where_the_issuer_uses_it() -> None:
    publisher = Publisher(KEY, ES256_KEY)
    signed = token({"kid": ES256_KEY.kid}, key=ES256_KEY, algorithm="ES256")

    assert (await principal(trusting(publisher, algorithms=("RS256", "ES256")), signed)).user_id == 7
    with pytest.raises(Unauthenticated, match="algorithm is not allowed"):
        await trusting(publisher).verify(signed)


async def test_token__brings_its_own_key__is_not_verified_with_it() -> None:
    forger = ECKey.generate_key("P-256", auto_kid=True)
    verifier = trusting(Publisher(KEY, ES256_KEY), algorithms=("ES256",))
    header = {"jwk": forger.as_dict(private=False), "jku": "https://evil.example/jwks"}

    with pytest.raises(Unauthenticated, match="unknown key"):
        await verifier.verify(token({**header, "kid": forger.kid}, key=forger, algorithm="ES256"))
    with pytest.raises(Unauthenticated, match="not valid"):
        await verifier.verify(token({**header, "kid": ES256_KEY.kid}, key=forger, algorithm="ES256"))


async def test_token__headers_that_nobody_here_knows__are_ignored(verifier: TokenVerifier) -> None:
    """As RFC 7515, section 4, has it, unless they are critical: Entra's tokens, for one, carry such."""
    registry = JWSRegistry(strict_check_header=False)
    head = {"alg": "RS256", "typ": "at+jwt", "kid": KEY.kid, "nonce": "n", "x5t": "t"}

    assert (await principal(verifier, jwt.encode(head, claims(), KEY, registry=registry))).user_id == 7


async def test_token__key_is_for_another_algorithm__is_refused() -> None:
    with pytest.raises(Unauthenticated, match="for another algorithm"):
        await trusting(Publisher(), algorithms=("RS256", "RS512")).verify(
            token(key=SAME_KEY_FOR_ANYTHING, algorithm="RS512")
        )


async def test_token__a_published_secret__is_no_key() -> None:
    secret = OctKey.generate_key(256, auto_kid=True)
    publisher = Publisher(KEY)
    publisher.documents["/jwks"] = {"keys": [secret.as_dict(private=True), KEY.as_dict(private=False)]}

    assert (await principal(trusting(publisher), token())).user_id == 7
    assert not await publisher.issuer_keys().find(str(secret.kid))


async def test_token__a_claim_that_the_issuer_must_set__is_demanded() -> None:
    """Keycloak's ID tokens and access tokens differ in a claim, not in the header."""
    verifier = trusting(Publisher(), types=("jwt",), required={"typ": "Bearer"})

    assert (await principal(verifier, token({"typ": "JWT"}, typ="Bearer"))).user_id == 7
    for other in ("ID", None):
        with pytest.raises(Unauthenticated, match="not valid"):
            await verifier.verify(token({"typ": "JWT"}, typ=other))


async def test_token__no_type_at_all__is_taken_only_where_the_issuer_gives_none() -> None:
    untyped = jwt.encode({"alg": "RS256", "kid": KEY.kid}, claims(), KEY, default_type=None)

    assert (await principal(trusting(Publisher(), types=("",)), untyped)).user_id == 7
    with pytest.raises(Unauthenticated, match="not an access token"):
        await trusting(Publisher()).verify(untyped)


# Clocks


@pytest.mark.parametrize(
    ("skew_s", "changes", "is_believed"),
    [
        (60, {"iat": 50}, True),
        (60, {"iat": 70}, False),
        (60, {"nbf": 50}, True),
        (60, {"nbf": 70}, False),
        (60, {"iat": -300, "exp": -50}, True),
        (60, {"iat": -300, "exp": -70}, False),
        (0, {"iat": 10}, False),
        (0, {"iat": -300, "exp": -2}, False),
        (300, {"iat": 290, "exp": 600}, True),
    ],
    ids=repr,
)
async def test_token__clocks_differ__is_believed_within_the_skew(
    skew_s: float, changes: dict[str, int], is_believed: bool
) -> None:
    issuer = Issuer(TRUSTED, Publisher().issuer_keys(), OwnSubjects(max_ttl_s=DAY_S))
    verifier = TokenVerifier([issuer], clock_skew_s=skew_s)
    now = int(time.time())
    shown = token(None, **{name: now + ahead for name, ahead in changes.items()})  # type: ignore[arg-type]

    if is_believed:
        credential, _signed_by = await verifier.verify(shown)
        assert credential.expires_at > time.time(), "it is remembered for as long as it is believed"
    else:
        with pytest.raises(Unauthenticated, match=r"expired|not valid yet"):
            await verifier.verify(shown)


async def test_token__clock_skew__is_60_seconds_by_default(verifier: TokenVerifier) -> None:
    now = int(time.time())

    assert (await principal(verifier, token(iat=now + 55, nbf=now + 55, exp=now + 100))).user_id == 7
    assert (await principal(verifier, token(iat=now - 100, exp=now - 50))).user_id == 7


# Length


def with_groups(count: int) -> str:
    """As Entra's: a claim with the object ids of ``count`` groups, 200 at most."""
    return token(groups=[str(uuid.uuid4()) for _ in range(count)], name="n" * 800, wids=[str(uuid.uuid4())] * 10)


async def test_token__with_200_groups__is_taken(verifier: TokenVerifier) -> None:
    large = with_groups(200)

    assert len(large) > 12_000
    assert (await principal(verifier, large)).user_id == 7


async def test_token__longer_than_the_setting__is_refused() -> None:
    issuer = Issuer(TRUSTED, Publisher().issuer_keys(), OwnSubjects(max_ttl_s=DAY_S))

    with pytest.raises(Unauthenticated, match="too long"):
        await TokenVerifier([issuer], max_length=4096).verify(with_groups(200))
    assert (await principal(TokenVerifier([issuer], max_length=4096), token())).user_id == 7


async def test_token__certificate_chain_in_its_header__is_taken(verifier: TokenVerifier) -> None:
    assert (await principal(verifier, token({"x5c": ["M" * 1600] * 2}))).user_id == 7


# Audience


async def test_audience__absent__is_taken_only_of_clients_that_are_listed() -> None:
    """As Cognito's access tokens are, which name their client and no audience."""
    listed = trusting(Publisher(), audiences=(), clients_without_audience=("c",))
    both = trusting(Publisher(), clients_without_audience=("c",))

    for verifier in (listed, both):
        assert (await principal(verifier, token(aud=None))).user_id == 7
        with pytest.raises(Unauthenticated, match="audience"):
            await verifier.verify(token(aud=None, client_id="other"))
        with pytest.raises(Unauthenticated, match="audience"):
            await verifier.verify(token(aud=None, client_id=None))
        for wrong in ("another-api", [], "", ["another-api"]):
            with pytest.raises(Unauthenticated, match="not valid"):
                await verifier.verify(token(aud=wrong))
    assert (await principal(both, token(client_id="other"))).user_id == 7, "a right audience is enough"
    with pytest.raises(Unauthenticated, match="not valid"):
        await listed.verify(token())
    with pytest.raises(Unauthenticated, match="not valid"):
        await trusting(Publisher()).verify(token(aud=None))
