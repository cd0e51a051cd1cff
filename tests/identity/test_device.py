"""The device flow (RFC 8628): a code on a screen, an answer in a browser, one token."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone
from oauth2_provider.models import get_device_grant_model

from project.accounts.models import User
from project.clients.models import Client
from tests.fixtures import give
from tests.identity.flows import DEVICE_CODE, SECRET, Browser, claims, machine_client, post, refresh, web_client

DeviceGrant = get_device_grant_model()


@pytest.fixture
def television(database: str) -> Client:
    return web_client("tv", authorization_grant_type=DEVICE_CODE, redirect_uris="")


def begin(client: Client, **fields: str) -> Any:
    return post("/o/device-authorization/", client_id=client.client_id, **fields)


def poll(client: Client, device_code: str, *, after_s: float = 60, **fields: str) -> Any:
    """Ask for the token, so many seconds after the last time."""
    DeviceGrant.objects.update(last_checked=F("last_checked") - timedelta(seconds=after_s))
    return post("/o/token/", grant_type=DEVICE_CODE, client_id=client.client_id, device_code=device_code, **fields)


def answer(browser: Browser, user_code: str, decision: str) -> str:
    """Type the code, look at what is asked, answer it."""
    page = browser.submit("/device/", user_code=user_code)
    assert "Let The tv app in?" in page.content.decode()
    return browser.submit("/device/", page, decision=decision).content.decode()


def test_device__allowed__gets_one_token(browser: Browser, television: Client, reader: User) -> None:
    device = begin(television, scope="openid users:read users:write").json()
    assert re.fullmatch(r"[B-Z]{4}-[B-Z]{4}", device["user_code"])
    assert device["verification_uri"] == "http://127.0.0.1:8000/device/"
    assert device["verification_uri_complete"].endswith(f"?user_code={device['user_code']}")
    assert (device["expires_in"], device["interval"]) == (1800, 5)
    assert poll(television, device["device_code"]).json()["error"] == "authorization_pending"

    done = answer(browser, device["user_code"].lower().replace("-", " "), "allow")

    assert "The device is connected" in done
    tokens = poll(television, device["device_code"]).json()
    token = claims(tokens["access_token"])
    assert (token["sub"], token["client_id"], token["scope"]) == (str(reader.pk), "tv", "openid users:read")
    assert poll(television, device["device_code"]).json()["error"] == "invalid_grant", "it is used up"
    assert refresh(television, tokens["refresh_token"]).status_code == 200


def test_device__refused__is_told(browser: Browser, television: Client) -> None:
    device = begin(television).json()

    assert "was not let in" in answer(browser, device["user_code"], "deny")

    assert poll(television, device["device_code"]).json()["error"] == "access_denied"


def test_device__asks_too_often__is_slowed_down_more_each_time(television: Client) -> None:
    code = begin(television).json()["device_code"]

    assert poll(television, code, after_s=0).json()["error"] == "authorization_pending"
    assert poll(television, code, after_s=1).json()["error"] == "slow_down"
    assert poll(television, code, after_s=6).json()["error"] == "slow_down", "the interval is 10 s now"
    assert poll(television, code, after_s=16).json()["error"] == "authorization_pending"
    assert DeviceGrant.objects.get().interval == 15


def test_device__expired__is_told_to_both(browser: Browser, television: Client) -> None:
    device = begin(television).json()
    DeviceGrant.objects.update(expires=timezone.now())

    assert poll(television, device["device_code"]).json()["error"] == "expired_token"
    page = browser.submit("/device/", user_code=device["user_code"])
    assert page.status_code == 400
    assert "has expired" in page.content.decode()


def test_device__another_client_with_its_code__gets_nothing(browser: Browser, television: Client) -> None:
    web_client("radio", authorization_grant_type=DEVICE_CODE, redirect_uris="")
    device = begin(television).json()
    answer(browser, device["user_code"], "allow")

    stolen = poll(Client.objects.get(client_id="radio"), device["device_code"])

    assert stolen.status_code == 400
    assert "access_token" not in stolen.json()
    assert poll(television, device["device_code"]).status_code == 200


def test_device__user_deactivated_or_loses_permission_meanwhile(
    browser: Browser, television: Client, reader: User
) -> None:
    lost, off = (begin(television, scope="openid users:read").json() for _ in range(2))
    for device in (lost, off):
        answer(browser, device["user_code"], "allow")

    reader.user_permissions.clear()
    assert poll(television, lost["device_code"]).json()["scope"] == "openid"
    User.objects.update(is_active=False)
    assert poll(television, off["device_code"]).json()["error"] == "access_denied"


def test_device__permission_given_after_the_consent__is_not_part_of_it(
    browser: Browser, television: Client, reader: User
) -> None:
    device = begin(television, scope="openid users:write").json()
    answer(browser, device["user_code"], "allow")
    give(reader, "add_user", "change_user")

    assert poll(television, device["device_code"]).json()["scope"] == "openid"


def test_device_authorization__wrong_client_or_scope__is_refused(web: Client, television: Client) -> None:
    assert begin(web).json()["error"] == "unauthorized_client"
    assert begin(television, scope="admin").json()["error"] == "invalid_scope"
    assert post("/o/device-authorization/", client_id="nobody").status_code in {400, 401}
    box = machine_client("box", authorization_grant_type=DEVICE_CODE)
    assert begin(box).status_code == 401
    assert begin(box, client_secret=SECRET).status_code == 200


def test_device_page__needs_a_log_in_and_a_csrf_token(browser: Browser, television: Client) -> None:
    device = begin(television).json()

    assert Browser().get("/device/")["Location"].startswith("/accounts/login/?next=/device/")
    forged = browser.http.post("/device/", {"user_code": device["user_code"], "decision": "allow"})

    assert forged.status_code == 403
    assert poll(television, device["device_code"]).json()["error"] == "authorization_pending"


def test_device_page__link_with_a_code__still_asks(browser: Browser, television: Client) -> None:
    device = begin(television).json()

    page = browser.get("/device/", user_code=device["user_code"]).content.decode()

    assert device["user_code"] in page
    assert "Type the code that the device shows" in page
    assert "Let The tv app in?" not in page


def test_device_page__guesses__are_limited(browser: Browser, television: Client) -> None:
    page = browser.get("/device/")

    statuses = [browser.submit("/device/", page, user_code="BBBB-BBBB").status_code for _ in range(12)]

    assert statuses == [400] * 10 + [429] * 2
