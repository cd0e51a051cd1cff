"""A hash that is replaced at sign-in ends nothing; a new password ends all, whichever hand writes it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import aauthenticate, authenticate
from django.contrib.auth.hashers import make_password
from django.db import connection
from django.test import override_settings

from project.accounts.models import User
from project.clients.models import Client
from project.identity.models import RevocationEvent
from tests.identity.flows import Browser, is_active, log_in_at, refresh

PASSWORD = "correct horse"


HASHERS = [
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "django.contrib.auth.hashers.MD5PasswordHasher",
    "project.identity.hashers.RandomSecretHasher",
]
"""Those of tomorrow: today's hash is verified, and replaced."""


@pytest.fixture
def stronger_hashes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("django.contrib.auth.hashers.PBKDF2PasswordHasher.iterations", 1000)
    with override_settings(PASSWORD_HASHERS=HASHERS):
        yield


def on_the_page() -> None:
    assert Browser().log_in().status_code == 302


def by_authenticate() -> None:
    assert authenticate(username="alice@example.com", password=PASSWORD) is not None


def by_aauthenticate() -> None:
    assert async_to_sync(aauthenticate)(username="alice@example.com", password=PASSWORD) is not None


def by_check_password() -> None:
    assert User.objects.get(email="alice@example.com").check_password(PASSWORD)


@pytest.mark.attack
@pytest.mark.parametrize("sign_in", [on_the_page, by_authenticate, by_aauthenticate, by_check_password])
def test_hash__of_another_algorithm_is_replaced_at_sign_in__ends_no_token_and_no_session(
    sign_in: Callable[[], None], browser: Browser, web: Client, reader: User, stronger_hashes: None
) -> None:
    tokens = log_in_at(web, browser)
    RevocationEvent.objects.all().delete()

    sign_in()

    before = reader.token_version
    reader.refresh_from_db()
    assert reader.password.startswith("pbkdf2_sha256$1000$")
    assert (reader.token_version, reader.password_version) == (before, 0)
    assert not RevocationEvent.objects.exists()
    assert is_active(tokens["access_token"])
    assert refresh(web, tokens["refresh_token"]).status_code == 200
    assert browser.get("/device/").status_code == 200, "this browser is still signed in"


@pytest.mark.attack
def test_hash__parameters_have_changed__ends_nothing_however_often(
    reader: User, stronger_hashes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Browser()
    browser.log_in()
    hashes = set()
    for iterations in (2000, 3000, 4000):
        monkeypatch.setattr("django.contrib.auth.hashers.PBKDF2PasswordHasher.iterations", iterations)
        by_authenticate()
        hashes.add(User.objects.get().password)

    assert len(hashes) == 3
    assert browser.get("/device/").status_code == 200


def save_new(user: User) -> None:
    user.set_password(PASSWORD)  # The same word: somebody has set it anew all the same.
    user.save()


def save_only_the_column(user: User) -> None:
    user.password = make_password("another")
    user.save(update_fields=["password"])


def update(user: User) -> None:
    User.objects.filter(pk=user.pk).update(password=make_password("another"))


def by_sql(user: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_user SET password = 'x' WHERE id = %s", [user.pk])


def from_an_instance_of_before_the_rehash(user: User) -> None:
    """Saves the whole row with the former hash and the former versions."""
    User.objects.get(pk=user.pk).check_password(PASSWORD)
    user.save()


def unusable(user: User) -> None:
    user.set_unusable_password()
    user.save()


WRITERS = [save_new, save_only_the_column, update, by_sql, from_an_instance_of_before_the_rehash, unusable]


@pytest.mark.attack
@pytest.mark.parametrize("write", WRITERS)
def test_password__written_by_whichever_hand__ends_tokens_and_sessions(
    write: Callable[[User], Any], browser: Browser, web: Client, reader: User, stronger_hashes: None
) -> None:
    tokens = log_in_at(web, browser)

    write(User.objects.get(pk=reader.pk))

    assert not is_active(tokens["access_token"])
    assert refresh(web, tokens["refresh_token"]).status_code == 400
    assert browser.get("/device/").status_code == 302
    assert User.objects.get().password_version == 1


def test_password__changed_meanwhile__is_not_overwritten_by_the_hash_of_the_old_one(
    reader: User, stronger_hashes: None
) -> None:
    stale = User.objects.get(pk=reader.pk)
    save_new_password = User.objects.get(pk=reader.pk)
    save_new_password.set_password("another")
    save_new_password.save()

    stale.check_password(PASSWORD)

    assert User.objects.get(pk=reader.pk).check_password("another")


def test_password__changed_in_the_admin_by_its_owner__keeps_this_session(reader: User) -> None:
    User.objects.update(is_staff=True, is_superuser=True)
    here, there = Browser(), Browser()
    for browser in (here, there):
        browser.log_in()

    changed = here.submit(
        "/admin/password_change/",
        old_password=PASSWORD,
        new_password1="a longer one 4711",
        new_password2="a longer one 4711",
    )

    assert changed.status_code == 302
    assert here.get("/admin/").status_code == 200
    assert there.get("/admin/").status_code == 302


def test_session__that_began_before_password_version__goes_on_until_the_password_changes(reader: User) -> None:
    browser = Browser()
    browser.log_in()
    session = browser.http.session
    session["_auth_user_hash"] = super(User, reader).get_session_auth_hash()
    session.save()
    assert browser.get("/device/").status_code == 200

    session = browser.http.session
    session["_auth_user_hash"] = super(User, reader).get_session_auth_hash()
    session.save()
    by_sql(reader)

    assert browser.get("/device/").status_code == 302
