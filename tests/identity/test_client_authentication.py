"""How clients show their secret (RFC 6749, section 2.3): in one way, in any spelling of it, at every endpoint."""

import base64
import json
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
from django.test import Client as DjangoClient

from project.clients.models import Client
from tests.identity.flows import DEVICE_CODE, SECRET, machine_client, post, web_client

TOKEN, REVOKE, INTROSPECT = "/o/token/", "/o/revoke/", "/o/introspect/"
DEVICE = "/o/device-authorization/"
FIELDS = {
    TOKEN: {"grant_type": "client_credentials"},
    REVOKE: {"token": "nonsense"},
    INTROSPECT: {"token": "nonsense"},
    DEVICE: {"scope": "users:read"},
}
ENDPOINTS = list(FIELDS)


@pytest.fixture(params=ENDPOINTS)
def endpoint(request: pytest.FixtureRequest, database: str) -> str:
    """Each endpoint that authenticates clients, and a client that may use it."""
    grant_type = DEVICE_CODE if request.param == DEVICE else "client-credentials"
    machine_client("a machine", may_introspect=True, authorization_grant_type=grant_type)
    return str(request.param)


def basic(client_id: str = "a machine", secret: str = SECRET, scheme: str = "Basic") -> str:
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return f"{scheme} {base64.b64encode(pair.encode()).decode()}"


def ask(endpoint: str, authorization: str | None = None, **fields: str) -> Any:
    headers = {} if authorization is None else {"authorization": authorization}
    body = urlencode({**FIELDS[endpoint], **fields})
    http = DjangoClient(raise_request_exception=False)
    return http.post(endpoint, body, "application/x-www-form-urlencoded", headers=headers)


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "bAsIc", "Basic "])
def test_basic__in_any_case__is_taken(scheme: str, endpoint: str) -> None:
    assert ask(endpoint, basic(scheme=scheme)).status_code == 200


def test_basic__the_same_client_id_in_the_body__is_taken(endpoint: str) -> None:
    assert ask(endpoint, basic(), client_id="a machine").status_code == 200


@pytest.mark.parametrize("fields", [{"client_secret": SECRET}, {"client_id": "another"}])
def test_basic__another_way_in_the_body_too__is_refused(fields: dict[str, str], endpoint: str) -> None:
    answer = ask(endpoint, basic(), **fields)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "authorization",
    [
        basic(secret="wrong"),
        basic(secret=""),
        basic("nobody"),
        "Basic",
        "Basic ",
        "basic !!!",
        "Basic YQ",
        "Basic " + base64.b64encode(b"no-colon").decode(),
        "Basic " + base64.b64encode(b":secret").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
        "Basic " + base64.b64encode(b"%FF:%FF").decode(),
        "Basic " + base64.b64encode(b"a%00b:c").decode(),
        "Basic " + "A" * 8000,
        "Basic \u00e9",
    ],
)
def test_basic__wrong_or_malformed__is_challenged_with_the_scheme_used(authorization: str, endpoint: str) -> None:
    answer = ask(endpoint, authorization)

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer["WWW-Authenticate"].startswith("Basic realm=")


def test_body__wrong_secret__is_challenged_too(endpoint: str) -> None:
    answer = ask(endpoint, client_id="a machine", client_secret="wrong")

    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Basic realm="), "a 401 has a challenge (RFC 9110, section 11.6.1)"


def test_basic__id_and_secret_with_every_kind_of_character__are_decoded(database: str) -> None:
    client_id, secret = "a+b c%d/é", "s:e+c r%e/t" * 5
    Client.objects.create(
        client_id=client_id,
        client_secret=secret,
        client_type="confidential",
        authorization_grant_type="client-credentials",
        allowed_scopes="users:read",
    )

    assert ask(TOKEN, basic(client_id, secret)).status_code == 200
    assert ask(TOKEN, client_id=client_id, client_secret=secret).status_code == 200
    assert ask(TOKEN, basic(client_id, f"{secret}x")).status_code == 401


def test_device_authorization__basic_alone__says_which_client_it_is(database: str) -> None:
    web_client("tv", authorization_grant_type=DEVICE_CODE, redirect_uris="")

    assert "device_code" in ask(DEVICE, basic("tv", "")).json()
    assert ask(DEVICE).status_code == 400


@pytest.mark.parametrize("path", ENDPOINTS)
def test_parameters_in_the_address__are_refused(path: str, database: str) -> None:
    for query in ["client_id=a", "client_secret=a", "scope=openid", "token=a", "x=%zz"]:
        answer = post(f"{path}?{query}", client_id="a machine", client_secret=SECRET)
        assert (answer.status_code, json.loads(answer.content)["error"]) == (400, "invalid_request"), query
