"""Clients that register themselves by RFC 7591: what they may become, and what they are refused."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.test import Client as DjangoClient
from django.utils import timezone

from project.accounts.models import User
from project.clients import registration as clients
from project.clients.models import Client
from project.config import config
from project.identity import metadata, registration
from project.identity.limits import limiter
from project.identity.models import RevocationEvent
from tests.identity.flows import (
    CALLBACK,
    SECRET,
    Browser,
    Verifier,
    authorize_path,
    claims,
    exchange,
    get_code,
    is_active,
    log_in_at,
    post,
    refresh,
    sent_back,
)

MINIMAL = {"client_name": "An agent", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"}


@pytest.fixture
def registration_is_on(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    switched_on = config.model_copy(update={"client_registration": True, "most_registered_clients": 3})
    for module in (registration, metadata, clients):
        monkeypatch.setattr(module, "config", switched_on)
    limiter().reset()
    yield
    limiter().reset()


def register(body: Any = MINIMAL, content_type: str = "application/json", **headers: Any) -> Any:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return DjangoClient(enforce_csrf_checks=True).post("/o/register/", sent, content_type, **headers)


def registered(**changes: Any) -> Client:
    answer = register({**MINIMAL, **changes})
    assert answer.status_code == 201, answer.content
    return Client.objects.get(client_id=answer.json()["client_id"])


def test_registration__by_default__is_off_and_not_told_of(database: str) -> None:
    assert register().status_code == 404
    assert not Client.objects.exists()
    document: Any = DjangoClient().get("/.well-known/openid-configuration")
    assert not {"registration_endpoint", "client_id_metadata_document_supported"} & document.json().keys()


@pytest.mark.usefixtures("registration_is_on")
def test_registration__public__logs_people_in(browser: Browser) -> None:
    document: Any = DjangoClient().get("/.well-known/oauth-authorization-server")
    assert document.json()["registration_endpoint"] == "http://127.0.0.1:8000/o/register/"

    answer = register({**MINIMAL, "scope": "openid users:read made:up", "logo_uri": "https://evil.example.com/x.png"})

    told = answer.json()
    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    assert "client_secret" not in told
    assert (told["scope"], told["grant_types"]) == ("openid users:read", ["authorization_code", "refresh_token"])
    client = Client.objects.get(client_id=told["client_id"])
    assert (client.registration_source, client.origin) == ("dcr", "127.0.0.1")
    tokens = log_in_at(client, browser, scope="openid users:read")
    assert claims(tokens["access_token"])["scope"] == "openid users:read"


@pytest.mark.usefixtures("registration_is_on")
def test_registration__confidential__has_a_secret_that_is_kept_as_a_hash(browser: Browser) -> None:
    told = register({"redirect_uris": [CALLBACK]}).json()

    client = Client.objects.get(client_id=told["client_id"])
    assert told["client_secret_expires_at"] == 0
    assert told["client_secret"] not in client.client_secret
    pkce = Verifier()
    code = get_code(browser, client, pkce)
    assert exchange(client, code, pkce).status_code == 401
    assert exchange(client, code, pkce, client_secret=told["client_secret"]).status_code == 200


@pytest.mark.attack
@pytest.mark.usefixtures("registration_is_on")
@pytest.mark.parametrize(
    "uri",
    [
        "http://example.com/callback",
        "http://127.0.0.1.example.com/",
        "http://10.0.0.1/",
        "com.example.app:/callback",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://app.example.com/#fragment",
        "https://user@app.example.com/",
        "https://app.example.com@evil.example.com/",
        "https:///callback",
        "https://app.example.com:99999/",
        "https://[::1/",
        "https://app.example.com/ https://evil.example.com/",
        "https://app.example.com/\u0000",
        "https://app.example.com/\ud800",
        "https://\u0430pp.example.com/",
        "//app.example.com/",
        "https://*.example.com/",
        "https://app.example.com/" + "a" * 500,
        "",
        7,
        None,
        ["https://app.example.com/"],
    ],
)
def test_registration__unsafe_redirect_uri__is_refused(uri: Any) -> None:
    answer = register({**MINIMAL, "redirect_uris": [CALLBACK, uri]})

    assert (answer.status_code, answer.json()["error"]) in {
        (400, "invalid_redirect_uri"),
        (400, "invalid_client_metadata"),
    }
    assert not Client.objects.exists()


@pytest.mark.attack
@pytest.mark.usefixtures("registration_is_on")
@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uris": []},
        {"redirect_uris": None},
        {"redirect_uris": CALLBACK},
        {"redirect_uris": [f"{CALLBACK}/{number}" for number in range(11)]},
        {"grant_types": ["client_credentials"]},
        {"grant_types": ["authorization_code", "client_credentials"]},
        {"grant_types": ["urn:ietf:params:oauth:grant-type:device_code"]},
        {"grant_types": ["refresh_token"]},
        {"grant_types": []},
        {"grant_types": "authorization_code"},
        {"grant_types": [["authorization_code"]]},
        {"grant_types": ["authorization_code", {}]},
        {"response_types": ["token"]},
        {"response_types": ["code", "id_token"]},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"token_endpoint_auth_method": ["none"]},
        {"client_name": "a" * 61},
        {"client_name": "Tandem\n"},
        {"client_name": "\u202eTandem"},
        {"client_name": "\ud800"},
        {"client_name": {"en": "x"}},
        {"scope": "made:up"},
        {"scope": ["openid"]},
    ],
)
def test_registration__metadata_that_are_not_offered__are_refused(changes: dict[str, Any]) -> None:
    answer = register({**MINIMAL, **changes})

    assert answer.status_code == 400
    assert answer.json()["error"] in {"invalid_client_metadata", "invalid_redirect_uri"}
    assert not Client.objects.exists()


@pytest.mark.attack
@pytest.mark.usefixtures("registration_is_on")
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"[]", "application/json"),
        (b"null", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"a":' * 1500, "application/json"),
        (b"[" * 9_999, "application/json"),
        (b'{"client_name": "' + b"a" * 10_000 + b'"}', "application/json"),
        (b'{"x": ' + b"9" * 5_000 + b"}", "application/json"),
        (b"redirect_uris=https://a.example.com", "application/x-www-form-urlencoded"),
        (b"--x\r\n\r\n\r\n--x--", "multipart/form-data; boundary=x"),
        (json.dumps(MINIMAL).encode(), "text/plain"),
    ],
)
def test_registration__body_that_is_no_small_json_object__is_refused(body: bytes, content_type: str) -> None:
    answer = register(body, content_type)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")


@pytest.mark.attack
@pytest.mark.usefixtures("registration_is_on")
def test_registration__can_get_no_token_without_a_person(browser: Browser) -> None:
    told = register({"redirect_uris": [CALLBACK]}).json()
    client = Client.objects.get(client_id=told["client_id"])
    shown = {"client_id": client.client_id, "client_secret": told["client_secret"]}

    assert post("/o/token/", grant_type="client_credentials", **shown).json()["error"] == "unauthorized_client"
    assert post("/o/introspect/", token="x", **shown).status_code == 403
    silent = browser.get(authorize_path(client, Verifier(), prompt="none"))
    assert sent_back(silent)["error"] == "consent_required"
    without_pkce = browser.get(authorize_path(client, Verifier(), code_challenge="", code_challenge_method=""))
    assert sent_back(without_pkce)["error"] == "invalid_request"


@pytest.mark.attack
@pytest.mark.usefixtures("registration_is_on")
@pytest.mark.parametrize(
    "right",
    [
        {"authorization_grant_type": "client-credentials", "client_type": "confidential"},
        {"may_introspect": True, "client_type": "confidential"},
        {"skip_authorization": True},
    ],
)
def test_registration__the_database_keeps_it_from_every_right(right: dict[str, Any]) -> None:
    client = registered()
    for name, value in right.items():
        setattr(client, name, value)

    if "skip_authorization" not in right:  # No form has that field.
        with pytest.raises(ValidationError, match="can only have people log in"):
            client.clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        Client.objects.filter(pk=client.pk).update(**right)


@pytest.mark.usefixtures("registration_is_on")
def test_registration__scopes__are_bounded_by_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = config.model_copy(update={"registered_client_scopes": ("openid", "users:read")})
    monkeypatch.setattr(clients, "config", bounded)

    assert registered().scopes == ["openid", "users:read"]
    assert registered(scope="users:read users:write").scopes == ["users:read"]
    assert register({**MINIMAL, "scope": "users:write"}).json()["error"] == "invalid_client_metadata"


@pytest.mark.usefixtures("registration_is_on")
def test_consent__of_a_client_that_registered_itself__says_so(browser: Browser) -> None:
    page = browser.get(authorize_path(registered(client_name="<b>Tandem</b>"), Verifier())).content.decode()

    assert "This application registered itself. Its name is not verified" in page
    assert "<strong>127.0.0.1</strong>" in page
    assert "<strong>app.example.com</strong>" in page
    assert "<b>Tandem" not in page


@pytest.mark.attack
@pytest.mark.usefixtures("registration_is_on")
def test_registration__flood__is_limited_in_rate() -> None:
    answers = [register(b"{}") for _ in range(21)]

    assert answers[-1].status_code == 429
    assert answers[-1].json()["error"] == "temporarily_unavailable"


@pytest.mark.attack
@pytest.mark.usefixtures("registration_is_on")
def test_registration__full_table__makes_room_of_old_and_unused_ones_only(browser: Browser) -> None:
    used, old, stopped = registered(), registered(), registered()
    assert register().status_code == 503, "each of them is new"
    log_in_at(used, browser)
    Client.objects.update(created=timezone.now() - timedelta(hours=2))
    Client.objects.filter(pk=stopped.pk).update(is_active=False)

    assert register().status_code == 201
    assert not Client.objects.filter(pk=old.pk).exists()
    assert Client.objects.filter(pk__in=(used.pk, stopped.pk)).count() == 2
    assert Client.objects.count() == 3


@pytest.mark.usefixtures("registration_is_on")
def test_clear_identity__deletes_those_that_were_never_used(
    browser: Browser, web: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    used, unused = registered(), registered()
    log_in_at(used, browser)
    Client.objects.update(created=timezone.now() - timedelta(days=31))
    new = registered()

    call_command("clear_identity")

    assert set(Client.objects.all()) == {used, new, web}
    assert unused not in Client.objects.all()
    assert "1 unused clients deleted" in capsys.readouterr().out


@pytest.mark.usefixtures("registration_is_on")
def test_management__with_its_token__reads_replaces_and_deletes() -> None:
    told = register().json()
    path = told["registration_client_uri"].removeprefix(config.base_url)
    http = DjangoClient(enforce_csrf_checks=True)

    def shown(token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}

    token = told["registration_access_token"]
    read: Any = http.get(path, headers=shown(token))
    assert read.json() == told
    replaced: Any = http.put(
        path, json.dumps({**MINIMAL, "client_name": "Better"}), "application/json", headers=shown(token)
    )
    assert replaced.json()["client_name"] == "Better"
    assert http.get(path, headers=shown(token)).status_code == 401, "a token is replaced with the metadata"
    token = replaced.json()["registration_access_token"]
    worse: Any = http.put(
        path, b'{"redirect_uris": ["http://a.example.com"]}', "application/json", headers=shown(token)
    )
    assert worse.json()["error"] == "invalid_redirect_uri"
    assert http.delete(path, headers=shown(token)).status_code == 204
    assert not Client.objects.exists()


@pytest.mark.usefixtures("registration_is_on")
def test_management__scopes_replaced_then_client_deleted__ends_its_tokens_with_one_event_each(browser: Browser) -> None:
    told = register().json()
    path = told["registration_client_uri"].removeprefix(config.base_url)
    client = Client.objects.get(client_id=told["client_id"])
    http, events = DjangoClient(), RevocationEvent.objects.filter(kind="client", subject=client.client_id)

    def managed_by(answer: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {answer['registration_access_token']}"}

    tokens = log_in_at(client, browser)
    narrower = json.dumps({**MINIMAL, "scope": "openid"})
    replaced: Any = http.put(path, narrower, "application/json", headers=managed_by(told)).json()
    assert not is_active(tokens["access_token"])
    assert events.count() == 1
    again: Any = http.put(path, narrower, "application/json", headers=managed_by(replaced)).json()
    assert events.count() == 1, "the same metadata end nothing"
    tokens = refresh(client, tokens["refresh_token"]).json()
    assert claims(tokens["access_token"])["scope"] == "openid"
    assert is_active(tokens["access_token"])
    assert http.delete(path, headers=managed_by(again)).status_code == 204
    assert not is_active(tokens["access_token"])
    assert events.count() == 2


@pytest.mark.attack
@pytest.mark.usefixtures("registration_is_on")
def test_management__without_its_own_token__is_refused(web: Client) -> None:
    mine, other = register().json(), register().json()
    token = {"Authorization": f"Bearer {mine['registration_access_token']}"}
    http = DjangoClient()

    for client_id in (other["client_id"], web.client_id, "nobody", "%00"):
        assert http.get(f"/o/register/{client_id}/", headers=token).status_code == 401
    assert http.get(f"/o/register/{mine['client_id']}/").status_code == 401
    assert http.delete(f"/o/register/{web.client_id}/", headers={"Authorization": "Bearer "}).status_code == 401
    Client.objects.filter(client_id=mine["client_id"]).update(is_active=False)
    assert http.get(f"/o/register/{mine['client_id']}/", headers=token).status_code == 401, "it was stopped"


@pytest.mark.attack
@pytest.mark.usefixtures("registration_is_on")
def test_management__flood__is_limited_in_rate() -> None:
    answers = [DjangoClient().get("/o/register/nobody/") for _ in range(61)]

    assert answers[-1].status_code == 429


@pytest.mark.usefixtures("registration_is_on")
def test_admin__shows_where_it_came_from_and_stops_it(browser: Browser) -> None:
    client = registered()
    User.objects.update(is_staff=True, is_superuser=True)

    page = browser.get("/admin/clients/client/", registration_source="dcr").content.decode()

    assert "An agent" in page
    assert "127.0.0.1" in page
    Client.objects.filter(pk=client.pk).update(is_active=False)
    assert browser.get(authorize_path(client, Verifier())).status_code == 400
    assert SECRET not in page
