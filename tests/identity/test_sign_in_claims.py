"""What ID tokens say about the sign-in before a log-in: always the same, wherever else the user signs in."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from oauth2_provider.models import get_device_grant_model, get_refresh_token_model

from project.accounts.models import User
from project.clients.models import Client
from project.identity.models import SignIn
from project.identity.sessions import ACR_OF_PASSWORD, METHODS, SIGNED_IN_AT
from tests.identity.flows import (
    DEVICE_CODE,
    Browser,
    Verifier,
    authorize_path,
    claims,
    log_in_at,
    post,
    refresh,
    sent_back,
    web_client,
)

AN_HOUR_S = 3600


@pytest.fixture
def old_browser(browser: Browser) -> Browser:
    """Alice's browser, in which she signed in an hour ago."""
    remember(browser, SIGNED_IN_AT, time.time() - AN_HOUR_S)
    return browser


def remember(browser: Browser, name: str, value: Any) -> None:
    session = browser.http.session
    session[name] = value
    session.save()


def seconds_ago(tokens: dict[str, Any]) -> float:
    return time.time() - float(claims(tokens["id_token"])["auth_time"])


def test_id_token__says_when_and_how_its_user_signed_in(browser: Browser, web: Client) -> None:
    identity = claims(log_in_at(web, browser)["id_token"])

    assert abs(identity["auth_time"] - time.time()) < AN_HOUR_S / 2
    assert identity["amr"] == ["pwd"]
    assert identity["acr"] == ACR_OF_PASSWORD == "urn:oasis:names:tc:SAML:2.0:ac:classes:Password"


def test_refresh__signed_in_elsewhere_since__keeps_every_claim_of_the_sign_in(
    old_browser: Browser, web: Client, reader: User
) -> None:
    tokens = log_in_at(web, old_browser, nonce="a-nonce")
    first = claims(tokens["id_token"])

    Browser().log_in()
    refreshed = [tokens := refresh(web, tokens["refresh_token"]).json() for _ in range(3)]

    for again in (claims(answer["id_token"]) for answer in refreshed):
        kept = {name: again.get(name) for name in ("iss", "sub", "aud", "auth_time", "amr", "acr", "sid")}
        assert kept == {name: first[name] for name in kept}
        assert "azp" not in again
        assert "nonce" not in again, "or the same as at first"
        assert again["iat"] >= first["iat"]
    assert seconds_ago(tokens) > AN_HOUR_S - 1


def test_refresh__nonce_in_the_request__is_not_taken(browser: Browser, web: Client) -> None:
    tokens = log_in_at(web, browser, nonce="a-nonce")

    again = refresh(web, tokens["refresh_token"], nonce="another", auth_time="1", user="1", claims="{").json()

    assert "nonce" not in claims(again["id_token"])


def test_refresh__signed_in_anew_in_the_same_browser__keeps_the_first_time(old_browser: Browser, web: Client) -> None:
    tokens = log_in_at(web, old_browser)

    old_browser.log_in()

    assert seconds_ago(refresh(web, tokens["refresh_token"]).json()) > AN_HOUR_S - 1
    assert seconds_ago(log_in_at(web, old_browser)) < AN_HOUR_S / 2, "a new log-in has the new time"


def test_auth_time__two_sessions__is_of_the_one_that_allows(old_browser: Browser, web: Client) -> None:
    new_browser = Browser()
    new_browser.log_in()

    assert seconds_ago(log_in_at(web, old_browser)) > AN_HOUR_S - 1
    assert seconds_ago(log_in_at(web, new_browser)) < AN_HOUR_S / 2


def test_max_age__signed_in_elsewhere_since__asks_this_browser(old_browser: Browser, web: Client) -> None:
    Browser().log_in()

    answer = old_browser.get(authorize_path(web, Verifier(), max_age="60"))

    assert answer["Location"].startswith("/accounts/login/")
    old_browser.log_in()
    assert old_browser.get(authorize_path(web, Verifier(), max_age="60")).status_code == 200


def test_device__its_id_token_says_when_the_user_who_let_it_in_signed_in(old_browser: Browser, reader: User) -> None:
    web_client("tv", authorization_grant_type=DEVICE_CODE, redirect_uris="")
    device = post("/o/device-authorization/", client_id="tv").json()
    page = old_browser.submit("/device/", user_code=device["user_code"])
    old_browser.submit("/device/", page, decision="allow")
    Browser().log_in()

    get_device_grant_model().objects.update(interval=0)
    tokens = post("/o/token/", grant_type=DEVICE_CODE, client_id="tv", device_code=device["device_code"]).json()

    assert seconds_ago(tokens) > AN_HOUR_S - 1
    again = refresh(Client.objects.get(), tokens["refresh_token"]).json()
    assert claims(again["id_token"])["auth_time"] == claims(tokens["id_token"])["auth_time"]


def test_refresh__log_in_of_an_older_version__says_nothing_of_the_sign_in(browser: Browser, web: Client) -> None:
    tokens = log_in_at(web, browser)
    SignIn.objects.all().delete()

    again = claims(refresh(web, tokens["refresh_token"]).json()["id_token"])

    assert not {"auth_time", "amr", "acr"} & again.keys()


def test_id_token__session_of_an_older_version__says_what_is_known(browser: Browser, web: Client) -> None:
    session = browser.http.session
    del session[METHODS]
    session.save()

    identity = claims(log_in_at(web, browser)["id_token"])

    assert "auth_time" in identity
    assert not {"amr", "acr"} & identity.keys()


def test_id_token__signed_in_with_two_factors__names_both(browser: Browser, web: Client) -> None:
    remember(browser, METHODS, ["pwd", "otp"])

    identity = claims(log_in_at(web, browser)["id_token"])

    assert identity["amr"] == ["pwd", "otp"]
    assert "acr" not in identity, "this set of methods has no class yet"


def test_id_token_hint__of_another_user__asks_nobody(browser: Browser, web: Client, bob: User) -> None:
    hint = log_in_at(web, browser)["id_token"]
    bobs = Browser()
    bobs.log_in("bob@example.com", "battery staple")

    for prompt in ("", "none"):
        path = authorize_path(web, Verifier(), id_token_hint=hint, prompt=prompt, scope="openid")
        assert sent_back(bobs.get(path))["error"] == "login_required"
    assert browser.get(authorize_path(web, Verifier(), id_token_hint=hint)).status_code == 200


def test_clear_identity__forgets_sign_ins_of_log_ins_that_are_over(browser: Browser, web: Client) -> None:
    living, over, fresh = (log_in_at(web, browser) for _ in range(3))
    family = {name: claims(tokens["id_token"])["sid"] for name, tokens in {"living": living, "over": over}.items()}
    SignIn.objects.exclude(family=claims(fresh["id_token"])["sid"]).update(
        created_at=timezone.now() - timedelta(days=2)
    )
    get_refresh_token_model().objects.exclude(token_family=family["living"]).delete()

    call_command("clear_identity", verbosity=0)

    assert {str(row.family) for row in SignIn.objects.all()} == {family["living"], claims(fresh["id_token"])["sid"]}


def test_user_deleted__takes_the_sign_ins_along(browser: Browser, web: Client) -> None:
    log_in_at(web, browser)

    User.objects.all().delete()

    assert not SignIn.objects.exists()
