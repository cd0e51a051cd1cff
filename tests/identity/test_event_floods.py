"""What an anonymous caller sends writes no event that every process would poll, and no repetition writes another."""

import secrets
from collections.abc import Callable
from typing import Any

import pytest

from project.clients.models import Client
from project.identity.models import RevocationEvent
from tests.identity.flows import (
    SECRET,
    Browser,
    Verifier,
    exchange,
    get_code,
    is_active,
    log_in_at,
    machine_client,
    post,
    refresh,
)

pytestmark = pytest.mark.attack


def events() -> int:
    return RevocationEvent.objects.count()


MADE_UP: list[tuple[str, Callable[[], Any]]] = [
    ("code", lambda: exchange(Client.objects.get(client_id="web"), secrets.token_urlsafe(), Verifier())),
    ("code of a length that none has", lambda: exchange(Client.objects.get(client_id="web"), "x", Verifier())),
    ("refresh token", lambda: refresh(Client.objects.get(client_id="web"), secrets.token_urlsafe())),
    ("revoked token", lambda: post("/o/revoke/", client_id="web", token=secrets.token_urlsafe())),
    ("revoked JWT", lambda: post("/o/revoke/", client_id="web", token="e30.e30.e30")),
    ("ID token hint", lambda: Browser().get("/o/logout/", id_token_hint="e30.e30.e30")),
    ("client secret", lambda: post("/o/token/", grant_type="client_credentials", client_id="web", client_secret="x")),
    ("device code", lambda: post("/o/token/", client_id="web", device_code=secrets.token_urlsafe())),
]


@pytest.mark.parametrize(("name", "send"), MADE_UP, ids=[name for name, _send in MADE_UP])
def test_made_up__whatever__writes_no_event(name: str, send: Callable[[], Any], web: Client) -> None:
    for _ in range(3):
        send()

    assert events() == 0


def test_code__issued_and_shown_again_and_again__writes_one_event(browser: Browser, web: Client) -> None:
    pkce = Verifier()
    code = get_code(browser, web, pkce)
    tokens = exchange(web, code, pkce).json()
    before = events()

    for _ in range(3):
        assert exchange(web, code, pkce).json()["error"] == "invalid_grant"

    assert events() == before + 1
    assert not is_active(tokens["access_token"])
    assert refresh(web, tokens["refresh_token"]).status_code == 400


def test_code__issued_and_shown_by_another_public_client__ends_the_log_in_all_the_same(
    browser: Browser, web: Client
) -> None:
    pkce = Verifier()
    code = get_code(browser, web, pkce)
    tokens = exchange(web, code, pkce).json()

    exchange(web, code, Verifier())

    assert not is_active(tokens["access_token"]), "a code that was used has leaked, whoever shows it"


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
def test_revoke__the_same_token_again_and_again__writes_one_event(which: str, browser: Browser, web: Client) -> None:
    tokens = log_in_at(web, browser)
    before = events()

    for _ in range(3):
        assert post("/o/revoke/", token=tokens[which], client_id="web").status_code == 200

    assert events() == before + 1


def test_revoke__a_machine_token_again_and_again__writes_one_event(database: str) -> None:
    machine_client()
    shown = {"client_id": "machine", "client_secret": SECRET}
    token = post("/o/token/", grant_type="client_credentials", **shown).json()["access_token"]

    for _ in range(3):
        assert post("/o/revoke/", token=token, **shown).status_code == 200

    assert events() == 1


def test_refresh_token__used_again_and_again__writes_one_event(
    browser: Browser, web: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("project.identity.validator.REFRESH_GRACE_S", 0)
    tokens = log_in_at(web, browser)
    refresh(web, tokens["refresh_token"])
    before = events()

    for _ in range(3):
        assert refresh(web, tokens["refresh_token"]).status_code == 400

    assert events() == before + 1


def test_log_out__with_the_same_id_token_again_and_again__writes_one_event(browser: Browser, web: Client) -> None:
    id_token = log_in_at(web, browser)["id_token"]
    before = events()

    for _ in range(3):
        Browser().get("/o/logout/", id_token_hint=id_token)  # Of a browser that is signed out nothing is asked.

    assert events() == before + 1
