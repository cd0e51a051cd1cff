"""Tokens whose signer's key is right and whose content is anything: believed or refused, and never an error of ours."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any, cast

import httpx2
import pytest
from asgiref.sync import sync_to_async
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.jws import JWSRegistry

from fastapi_app.core.claims import Claims
from fastapi_app.core.credentials import Credential
from fastapi_app.core.database import Database
from fastapi_app.core.errors import Unauthenticated
from fastapi_app.core.external_users import ExternalSubjects
from fastapi_app.core.revocation import RevocationView
from fastapi_app.core.tokens import Issuer, OwnSubjects, Subjects, TokenVerifier
from project.accounts.models import User
from project.config import ClaimNames, config
from tests.core.issuer import KEY, TRUSTED, Publisher, by_hand, claims
from tests.fixtures import IssueToken, assert_problem, bearer, sign
from tests.identity.flows import web_client

pytestmark = [pytest.mark.asyncio, pytest.mark.attack]

HEADER = {"alg": "RS256", "typ": "at+jwt", "kid": KEY.kid}
DAY_S = 24 * 60 * 60
HUGE = 10**400
ODD = "ab.{} \x00\x1b\n\x7f\x85\u2028\ud800\udfffé٣\U0001f600"
FUZZED = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
"""Without the clocks of a loaded machine."""

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([HUGE, -1, 2**63, time.time(), -0.0, 1e308])
    | st.floats()
    | st.text(ODD, max_size=8)
    | st.sampled_from(["\x00", "\ud800", "٣", "1", "true", "", " ", "x" * 300, "users:read"]),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(ODD, max_size=2), some, max_size=3),
    max_leaves=6,
)
changed_claims = st.dictionaries(
    st.sampled_from([*claims(), "nbf", "family", "email", "email_verified", "azp", "realm_access", "", "\x00"]),
    anything,
    max_size=3,
)
changed_headers = st.dictionaries(
    st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jku", "jwk", "x5c", "x5t", "cty", "zip"]),
    anything,
    max_size=2,
)


def signed(header: str, payload: str) -> str:
    """Signed with the issuer's real key, whatever it says."""
    parts = (base64.urlsafe_b64encode(part.encode()).rstrip(b"=") for part in (header, payload))
    signing_input = b".".join(parts)
    signature = JWSRegistry.algorithms["RS256"].sign(signing_input, KEY)
    return f"{signing_input.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


class OneUser:
    """A database in which every subject that it can store is user 7."""

    async def fetch_all(self, _statement: object, *, issuer: str, subject: str) -> list[dict[str, Any]]:
        assert b"\x00" not in (issuer + subject).encode()
        return [{"id": 7, "is_active": True, "is_superuser": False, "token_version": 0, "permission": None}]


def verifiers() -> list[TokenVerifier]:
    """Of a token of ours; and of an external issuer's, with each kind of configuration."""
    everything = {
        "claims": ClaimNames(scope="realm_access.roles", client_id="azp"),
        "machine_when": {"sub": "{client_id}"},
        "clients_without_audience": ("web",),
        "required": {"scope": "a b"},
    }
    external = [TRUSTED, TRUSTED.model_copy(update=everything), TRUSTED.model_copy(update={"users": "create"})]
    subjects: list[Subjects] = [
        OwnSubjects(max_ttl_s=DAY_S),
        *(ExternalSubjects(at, cast("Database", OneUser())) for at in external),
    ]
    return [
        TokenVerifier([Issuer(at, Publisher().issuer_keys(), of)])
        for at, of in zip([TRUSTED, *external], subjects, strict=True)
    ]


async def believed(verifier: TokenVerifier, token: str) -> Credential | None:
    try:
        credential, _signed_by = await verifier.verify(token)
    except Unauthenticated as refusal:
        (refusal.headers or {})["WWW-Authenticate"].encode("latin-1")
        return None
    credential.principal.name.encode()
    assert not RevocationView(None, remember_s=1).is_revoked(credential.revocable)  # type: ignore[arg-type]
    return credential


@FUZZED
@given(header=changed_headers, payload=changed_claims)
async def test_token__any_header_and_claims__is_believed_or_refused(header: Any, payload: Any) -> None:
    token = signed(json.dumps({**HEADER, **header}), json.dumps({**claims(), **payload}))

    for verifier in verifiers():
        await believed(verifier, token)


@FUZZED
@given(header=anything, payload=anything)
async def test_token__no_object_in_it__is_refused(header: object, payload: object) -> None:
    for parts in ((header, claims()), (HEADER, payload), (header, payload)):
        assert not await believed(verifiers()[0], signed(*map(json.dumps, parts)))


@pytest.mark.parametrize(
    "change",
    [
        {"sub": 7}, {"sub": True}, {"sub": ["7"]}, {"sub": ""}, {"sub": "7\x00"}, {"sub": "\ud800"}, {"sub": "٣"},
        {"sub": "9" * 30}, {"sub": "9" * 5000}, {"sub": "-7"}, {"sub": "7.0"},
        {"iat": "1"}, {"iat": True}, {"iat": float("nan")}, {"iat": float("-inf")}, {"iat": -1}, {"iat": -HUGE},
        {"iat": [1]},
        {"exp": "9999999999"}, {"exp": True}, {"exp": float("nan")}, {"exp": float("inf")}, {"exp": HUGE},
        {"exp": 1e300}, {"exp": {"$date": 1}},
        {"nbf": "0"}, {"nbf": float("nan")}, {"nbf": HUGE}, {"nbf": False},
        {"aud": [["the-api"]]}, {"aud": {"the-api": 1}}, {"aud": [1, "the-api"]}, {"aud": 1}, {"aud": []},
        {"aud": None},
        {"iss": {"a": 1}}, {"iss": 5},
        {"client_id": ["c"]}, {"client_id": 1}, {"client_id": "c" * 300}, {"client_id": ""}, {"client_id": {"a": 1}},
        {"jti": {"a": 1}}, {"jti": 1}, {"jti": ["j"]}, {"jti": ""}, {"jti": "\x1b"},
        {"family": ["f"]}, {"family": {}}, {"family": 1},
        {"token_version": True}, {"token_version": -1}, {"token_version": HUGE}, {"token_version": 0.0},
        {"token_version": "0"},
        {"scope": 5}, {"scope": {"a": 1}}, {"scope": [["a"]]}, {"scope": [1]}, {"scope": True}, {"scope": "\ud800"},
        {"scope": ["a", None]},
    ],
    ids=repr,
)  # fmt: skip
async def test_claim__of_a_wrong_type__is_refused(change: dict[str, Any]) -> None:
    own = verifiers()[0]

    assert not await believed(own, signed(json.dumps(HEADER), json.dumps({**claims(), **change})))
    assert await believed(own, signed(json.dumps(HEADER), json.dumps(claims())))


@pytest.mark.parametrize(
    "change",
    [
        {"typ": 5}, {"typ": ["at+jwt"]}, {"typ": {}}, {"alg": 5}, {"alg": ["RS256"]}, {"alg": None}, {"alg": {}},
        {"kid": 5}, {"kid": ["k"]}, {"kid": {}}, {"kid": "\ud800"}, {"kid": "\x00"},
        {"crit": []}, {"crit": ["b64"], "b64": False}, {"crit": ["b64"], "b64": True}, {"crit": "exp"},
        {"crit": [["b64"]]}, {"crit": [{}]}, {"b64": False}, {"b64": 0},
    ],
    ids=repr,
)  # fmt: skip
async def test_header__of_a_wrong_type_or_critical__is_refused(change: dict[str, Any]) -> None:
    for verifier in verifiers():
        assert not await believed(verifier, signed(json.dumps({**HEADER, **change}), json.dumps(claims())))


@pytest.mark.parametrize(
    "make",
    [
        lambda good: good[:-1] + ', "sub": "8"}',
        lambda good: good[:-1] + ', "aud": "the-api"}',
        lambda good: good[:-1] + ', "x": {"a": 1, "a": 2}}',
        lambda good: good[:-1] + ', "x": NaN}',
        lambda good: good[:-1] + ', "x": -Infinity}',
        lambda good: good[:-1] + f', "x": {"9" * 5000}}}',
        lambda good: "[" * 5000,
        lambda good: '{"a":' * 1500 + "1" + "}" * 1500,
        lambda good: good + "x",
        lambda good: "\ufeff" + good,
        lambda good: "",
        lambda good: "null",
    ],
)
async def test_payload__json_that_readers_take_differently_or_not_at_all__is_refused(
    make: Callable[[str], str],
) -> None:
    assert not await believed(verifiers()[0], signed(json.dumps(HEADER), make(json.dumps(claims()))))


@pytest.mark.parametrize("header", [["alg"], ["alg", "b64"], "alg b64", 5, None, True])
async def test_header__no_object__is_refused_though_nobody_signed_it(header: Any) -> None:
    assert not await believed(verifiers()[0], by_hand(header, claims(), "AAAA"))


@pytest.mark.parametrize(
    "token", ["..", "a..", "....", "e30.e30.", "e30=.e30=.AA==", "e30.e30.+/", "e3 0.e30.AA", "😀.e30.A"]
)
async def test_token__of_a_wrong_form__is_refused(token: str) -> None:
    assert not await believed(verifiers()[0], token)


# Truth, as issuers write it


@pytest.mark.parametrize(
    ("value", "is_true"),
    [
        *((value, True) for value in (True, "true", "True", "TRUE", 1, 1.0, "1")),
        *((value, False) for value in (False, "false", 0, "0", None, "", "yes", 2, [True], {"true": 1}, "t", "11")),
    ],
)
async def test_email_verified__in_any_form__is_read(value: object, is_true: bool) -> None:
    assert Claims({"email_verified": value}).is_true("email_verified") is is_true


async def test_name_with_dots__leads_through_objects_only() -> None:
    nested = Claims({"a": {"b": {"c": "found"}}, "a.b": "whole", "list": [{"b": "x"}], "text": "x"})

    assert nested.text("a.b.c") == "found"
    assert nested.text("a.b") == "whole"
    for nowhere in ("list.b", "list.0", "text.b", "a.x.c", ".", "", "a..c"):
        assert nested.find(nowhere) is None


# The whole app


async def test_app__tokens_of_ours_with_odd_claims__are_401(
    client: httpx2.AsyncClient, alice: User, issue_token: IssueToken
) -> None:
    now = int(time.time())
    good = {
        "iss": config.base_url, "aud": config.api_audience, "sub": str(alice.pk), "client_id": "c", "jti": "j",
        "iat": now, "exp": now + 300, "scope": "users:read", "token_version": 0,
    }  # fmt: skip
    assert (await client.get("/api/v1/users/me", headers=bearer(sign(good)))).status_code == 200

    odd: list[tuple[str, Any]] = [
        ("scope", 5), ("scope", {"users:read": 1}), ("scope", [["users:read"]]), ("sub", int(alice.pk)),
        ("sub", "9" * 30), ("sub", "9" * 5000), ("iat", HUGE), ("iat", float("nan")), ("exp", HUGE),
        ("family", ["f"]), ("jti", {"a": 1}), ("token_version", True), ("token_version", HUGE), ("aud", [["x"]]),
        ("client_id", ["c"]), ("client_id", "c\x00"), ("jti", "\x00"),
    ]  # fmt: skip
    for name, value in odd:
        answer = await client.get("/api/v1/users/me", headers=bearer(sign({**good, name: value})))
        assert_problem(answer, 401)


async def test_app__header_that_is_a_list__is_401(client: httpx2.AsyncClient, database: str) -> None:
    for header in (["alg"], ["alg", "b64"]):
        made_up = by_hand(header, {"iss": config.base_url}, "AAAA")  # type: ignore[arg-type]
        assert_problem(await client.get("/api/v1/users/me", headers=bearer(made_up)), 401)


async def test_issuers_pages__header_that_is_no_object__is_no_token(client: httpx2.AsyncClient, database: str) -> None:
    """Log-out, revocation and userinfo read tokens of ours as well, with code of their own."""
    headers: list[Any] = [["alg"], ["alg", "b64"], "alg b64", {**HEADER, "crit": [["x"]]}, {**HEADER, "kid": {}}]
    for header in headers:
        made_up = by_hand(header, {"iss": config.base_url}, "AAAA")
        answers = [
            await client.get("/o/logout/", params={"id_token_hint": made_up}),
            await client.get("/o/userinfo/", headers=bearer(made_up)),
            await client.post("/o/revoke/", data={"token": made_up, "client_id": "x"}),
        ]
        assert all(answer.status_code < 500 for answer in answers), header


@pytest.mark.attack
@pytest.mark.parametrize(
    "name", ["sub", "exp", "jti", "scope", "client_id", "token_version", "client_version", "family"]
)
async def test_issuers_pages__tokens_of_ours_with_odd_claims__are_no_tokens(
    name: str, client: httpx2.AsyncClient, alice: User
) -> None:
    good = {
        "iss": config.base_url, "aud": config.api_audience, "sub": str(alice.pk), "client_id": "web", "jti": "j",
        "exp": int(time.time()) + 300, "scope": "openid", "token_version": 0,
    }  # fmt: skip
    await sync_to_async(web_client)()
    assert (await client.get("/o/userinfo/", headers=bearer(sign(good)))).status_code == 200

    values: list[Any] = [None, True, -1, HUGE, "\x00", "x" * 5000 + "\x00", ["openid"], {"a": 1}, [[]], 1.5]
    for value in values:
        if name == "exp" and value == 1.5:
            continue  # A time of the past.
        odd = sign({**good, name: value})
        assert (await client.get("/o/userinfo/", headers=bearer(odd))).status_code == 401, value
        assert (await client.post("/o/revoke/", data={"token": odd, "client_id": "web"})).status_code == 200, value
