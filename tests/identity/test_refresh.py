"""Refresh tokens: exchanged once, and once more within the grace; a copy gives itself away."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from oauth2_provider.models import get_access_token_model, get_refresh_token_model

from project.accounts.models import User
from project.clients.models import Client
from project.identity.lifetimes import REFRESH_GRACE_S, REFRESH_TOKEN_TTL_S
from tests.fixtures import give
from tests.identity.flows import Browser, claims, is_active, log_in_at, refresh, web_client

RefreshToken = get_refresh_token_model()


@pytest.fixture
def tokens(browser: Browser, web: Client) -> dict[str, Any]:
    return log_in_at(web, browser)


def later(seconds: float) -> None:
    """Let the time pass for what was used already."""
    for token in RefreshToken.objects.filter(revoked__isnull=False):
        RefreshToken.objects.filter(pk=token.pk).update(revoked=token.revoked - timedelta(seconds=seconds))


def test_refresh__rotates_within_one_family(web: Client, tokens: dict[str, Any]) -> None:
    first = claims(tokens["access_token"])

    for _ in range(3):
        answer = refresh(web, tokens["refresh_token"])
        assert answer.status_code == 200
        assert answer["Cache-Control"] == "no-store"
        later(REFRESH_GRACE_S + 1)
        assert answer.json()["refresh_token"] != tokens["refresh_token"]
        tokens = answer.json()

    again = claims(tokens["access_token"])
    assert again["family"] == first["family"]
    assert again["jti"] != first["jti"]
    assert RefreshToken.objects.filter(revoked=None).count() == 1
    assert not RefreshToken.objects.exclude(token="").exists(), "only checksums are kept"
    assert not get_access_token_model().objects.exclude(token="").exists()


def test_refresh__again_within_the_grace__gives_a_pair_that_works(web: Client, tokens: dict[str, Any]) -> None:
    pairs = [refresh(web, tokens["refresh_token"]).json() for _ in range(3)]

    assert len({pair["refresh_token"] for pair in pairs}) == 3
    assert len({claims(pair["access_token"])["family"] for pair in pairs}) == 1
    for pair in pairs:
        assert pair["scope"] == tokens["scope"]
        assert is_active(pair["access_token"])
        assert refresh(web, pair["refresh_token"]).status_code == 200


def test_refresh__again_after_the_grace__kills_the_family(web: Client, tokens: dict[str, Any]) -> None:
    fresh = refresh(web, tokens["refresh_token"]).json()
    later(REFRESH_GRACE_S + 1)

    replay = refresh(web, tokens["refresh_token"])

    assert (replay.status_code, replay.json()["error"]) == (400, "invalid_grant")
    assert refresh(web, fresh["refresh_token"]).json()["error"] == "invalid_grant"
    assert not is_active(fresh["access_token"])


def test_refresh__by_another_client__is_refused_and_harms_nobody(web: Client, tokens: dict[str, Any]) -> None:
    other = web_client("other")

    assert refresh(other, tokens["refresh_token"]).json()["error"] == "invalid_grant"
    fresh = refresh(web, tokens["refresh_token"]).json()
    later(REFRESH_GRACE_S + 1)
    assert refresh(other, tokens["refresh_token"]).status_code == 400
    assert refresh(web, fresh["refresh_token"]).status_code == 200, "the other's replay did not count"


@pytest.mark.parametrize("scope", ["users:write", "openid users:write", "email", "admin"])
def test_refresh__more_scopes_than_were_allowed__is_refused(
    scope: str, web: Client, tokens: dict[str, Any], reader: User
) -> None:
    give(reader, "add_user", "change_user")

    assert refresh(web, tokens["refresh_token"], scope=scope).json()["error"] == "invalid_scope"


def test_refresh__fewer_scopes__narrows_the_access_token_only(web: Client, tokens: dict[str, Any]) -> None:
    narrow = refresh(web, tokens["refresh_token"], scope="openid").json()
    assert narrow["scope"] == "openid"

    assert refresh(web, narrow["refresh_token"]).json()["scope"] == "openid users:read"


def test_refresh__permission_taken_and_given_back__so_is_the_scope(
    web: Client, tokens: dict[str, Any], reader: User
) -> None:
    reader.user_permissions.clear()
    without = refresh(web, tokens["refresh_token"]).json()
    give(reader, "view_user")
    with_it = refresh(web, without["refresh_token"]).json()

    assert without["scope"] == "openid"
    assert refresh(web, without["refresh_token"], scope="users:read").status_code == 200
    assert with_it["scope"] == "openid users:read"


def test_refresh__user_deactivated__is_refused_for_good(web: Client, tokens: dict[str, Any], reader: User) -> None:
    User.objects.update(is_active=False)
    assert refresh(web, tokens["refresh_token"]).json()["error"] == "invalid_grant"

    User.objects.update(is_active=True)
    assert refresh(web, tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_refresh__password_changed__is_refused(web: Client, tokens: dict[str, Any], reader: User) -> None:
    reader.set_password("a new one")
    reader.save()

    assert refresh(web, tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_refresh__unused_for_two_weeks__is_refused(web: Client, tokens: dict[str, Any]) -> None:
    over = timezone.now() - timedelta(seconds=REFRESH_TOKEN_TTL_S)
    get_access_token_model().objects.update(expires=over + timedelta(seconds=30))
    fresh = refresh(web, tokens["refresh_token"])
    assert fresh.status_code == 200

    get_access_token_model().objects.update(expires=over)
    assert refresh(web, fresh.json()["refresh_token"]).status_code == 400


@pytest.mark.parametrize("token", ["", "nonsense", "a" * 5000, "\x00"])
def test_refresh__nonsense__is_an_error_of_the_caller(token: str, web: Client) -> None:
    assert refresh(web, token).status_code == 400
