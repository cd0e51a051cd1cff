# ruff: noqa: RUF001  Characters that look alike are what this is about.
"""Addresses of accounts: stored in one spelling by every writer, found by every spelling, edited in the admin."""

import importlib
import io
import os
import re
import sqlite3
import subprocess
import sys
from html import unescape
from typing import Any

import httpx2
import psycopg
import pytest
import pytest_asyncio
from django.apps import apps
from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection

from project.accounts.fields import AddressFormField
from project.accounts.models import User
from project.addresses import InvalidAddress, normal_form
from project.config import BASE_DIR
from tests.accounts.test_admin import PASSWORD, log_in, submit
from tests.fixtures import IssueToken, bearer, in_thread, make_api_key

KOREAN = ("hong@한국.example", "hong@xn--3e0b707e.example", "HONG@XN--3E0B707E.EXAMPLE", "ｈong＠한국。example")
TAKEN = [*KOREAN, "홍길동@example.com", "ada@corp.local", "josé@bücher.example", "o'neil+x@example.com"]
NO_ADDRESS = [
    "Name <a@b.example>",
    "<a@b.example>",
    "аlice@example.com",
    "асе@example.com",
    "a@localhost",
    '"a b"@example.com',
    "a@[127.0.0.1]",
    "ali\u200bce@example.com",
    "alice@example.com.",
    "nobody",
    "",
]


# Stored in one spelling, found by all


@pytest.mark.parametrize("spelling", KOREAN)
def test_user__created_and_looked_up_by_any_spelling__is_one(spelling: str, database: str) -> None:
    user = User.objects.create_user(spelling, "correct horse")

    assert user.email == KOREAN[1]
    assert str(user) == user.shown_email == KOREAN[0]
    assert user.get_full_name() == KOREAN[0]
    for other in KOREAN:
        assert User.objects.get_by_natural_key(other) == user
        assert User.objects.get(email=other) == user
        assert User.objects.filter(email__in=[other]).count() == 1
        assert authenticate(username=other, password="correct horse") == user
        with pytest.raises(IntegrityError):
            in_thread(User.objects.create_user, other)


@pytest.mark.parametrize("spelling", KOREAN)
def test_user__saved_or_updated_with_any_spelling__is_stored_in_one(spelling: str, alice: User) -> None:
    alice.email = spelling
    alice.save()
    assert alice.email == User.objects.values_list("email", flat=True).get(pk=alice.pk) == KOREAN[1]

    User.objects.filter(pk=alice.pk).update(email="x@example.com")
    User.objects.filter(pk=alice.pk).update(email=spelling)
    assert User.objects.values_list("email", flat=True).get(pk=alice.pk) == KOREAN[1]


@pytest.mark.attack
@pytest.mark.parametrize("value", NO_ADDRESS)
def test_address__none_or_a_deceiving_one__is_refused_by_each_way_in(value: str, database: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        User.objects.create_user(value)
    with pytest.raises(ValidationError):
        User(email=value, password="x").full_clean()
    with pytest.raises(ValidationError):
        AddressFormField().clean(value)
    with pytest.raises(CommandError):
        call_command("createsuperuser", "--no-input", "--email", value, stdout=io.StringIO(), stderr=io.StringIO())


def test_lower__of_each_letter_that_an_address_may_have__is_the_letter_on_both_databases(database: str) -> None:
    """The check constraint says ``email = lower(email)``, and each database has a lower() of its own."""
    letters = [chr(code) for code in range(0x80, 0x30000) if _can_be_stored(chr(code))]
    text = "".join(letters)

    with connection.cursor() as cursor:
        cursor.execute("SELECT lower(%s)", [text])
        (lowered,) = cursor.fetchone()

    assert len(letters) > 100_000
    assert [letter for letter, lower in zip(text, lowered, strict=True) if letter != lower] == []


def _can_be_stored(letter: str) -> bool:
    try:
        return normal_form(f"{letter}@example.com") == f"{letter}@example.com"
    except InvalidAddress:
        return False


# Commands


@pytest.mark.parametrize("spelling", KOREAN)
def test_commands__any_spelling__reach_the_same_account(
    spelling: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "correct horse")
    call_command("createsuperuser", "--no-input", "--email", spelling, stdout=io.StringIO())
    with pytest.raises(CommandError, match="already taken"):
        call_command("createsuperuser", "--no-input", "--email", KOREAN[0], stdout=io.StringIO())

    monkeypatch.setattr("getpass.getpass", lambda **_options: "battery staple 42")
    call_command("changepassword", spelling, stdout=io.StringIO())
    call_command("issue_token", spelling, stdout=io.StringIO())

    assert authenticate(username=KOREAN[1], password="battery staple 42") == User.objects.get()


# The admin and the API take the same addresses


@pytest_asyncio.fixture
async def admin(client: httpx2.AsyncClient, database: str) -> httpx2.AsyncClient:
    in_thread(User.objects.create_superuser, "root@example.com", PASSWORD)
    await log_in(client, "root@example.com", PASSWORD)
    return client


@pytest.mark.asyncio
@pytest.mark.parametrize("address", [*TAKEN, *NO_ADDRESS])
async def test_address__the_api_takes_it__if_and_only_if_the_admin_does(
    address: str, admin: httpx2.AsyncClient, issue_token: IssueToken, alice: User
) -> None:
    root = await User.objects.aget(email="root@example.com")
    token = bearer(issue_token(root, "users:read", "users:write"))
    by_api = await admin.post("/api/v1/users", json={"email": address}, headers=token)

    await admin_saves(admin, alice, "moved@example.com")
    if by_api.status_code == 201:
        assert by_api.json()["email"] == shown_in(by_api.json())
        taken = await admin_saves(admin, alice, address)
        assert "A user with this e-mail address exists already." in taken or "already exists" in taken
        created = await User.objects.aget(pk=by_api.json()["id"])
        await created.adelete()

    page = await admin_saves(admin, alice, address)

    assert ("was changed successfully" in page) == (by_api.status_code == 201)
    if by_api.status_code == 201:
        await alice.arefresh_from_db()
        assert alice.email == created.email


def shown_in(user: dict[str, Any]) -> str:
    return User(email=user["email"]).shown_email


async def admin_saves(admin: httpx2.AsyncClient, user: User, address: str | None = None) -> str:
    """Open a user in the admin, as a browser shows it, type another address if any, and save."""
    path = f"/admin/accounts/user/{user.pk}/change/"
    page = (await admin.get(path)).text
    (field,) = re.findall(r"<input[^>]*name=\"email\"[^>]*>", page)
    assert 'type="text"' in field, "Chromium rewrites what stands in an input of type email"
    (value,) = re.findall(r'value="([^"]*)"', field)
    typed = unescape(value) if address is None else address
    answer = await submit(admin, path, email=typed, display_name="Edited", is_active="on")
    return answer.text


@pytest.mark.asyncio
@pytest.mark.parametrize("address", TAKEN)
async def test_admin__saves_a_user_as_shown__leaves_the_address(
    address: str, admin: httpx2.AsyncClient, database: str
) -> None:
    user = await User.objects.acreate(email=address)
    before = user.email

    assert "was changed successfully" in await admin_saves(admin, user)

    await user.arefresh_from_db()
    assert (user.email, user.display_name) == (before, "Edited")


@pytest.mark.asyncio
@pytest.mark.parametrize("term", [*KOREAN, "hong@한국", "hong"])
async def test_admin__lists_and_searches__by_the_address_as_people_read_it(
    term: str, admin: httpx2.AsyncClient, database: str
) -> None:
    await User.objects.acreate(email=KOREAN[1])

    page = (await admin.get("/admin/accounts/user/", params={"q": term})).text

    assert ">hong@한국.example</a>" in page
    assert "root@example.com</a>" not in page


@pytest.mark.asyncio
async def test_admin__searches_what_belongs_to_a_user__by_the_address_as_people_read_it(
    admin: httpx2.AsyncClient, database: str
) -> None:
    hong = await User.objects.acreate(email=KOREAN[1])
    in_thread(make_api_key, hong)

    page = (await admin.get("/admin/identity/apikey/", params={"q": "hong@한국.example"})).text

    assert "a script" in page


@pytest.mark.asyncio
async def test_admin__adds_a_user__by_an_international_address(admin: httpx2.AsyncClient) -> None:
    answer = await submit(
        admin,
        "/admin/accounts/user/add/",
        email="Hong@한국.example",
        usable_password="true",
        password1="battery staple 42",
        password2="battery staple 42",
    )

    assert "was added successfully" in answer.text
    assert await User.objects.filter(email=KOREAN[1]).aexists()


# The migration


def migrate_addresses() -> None:
    migration = importlib.import_module("project.accounts.migrations.0004_addresses")
    with connection.schema_editor() as editor:
        migration.rewrite(apps, editor)


def stored_before(*addresses: str) -> list[int]:
    """Users as an earlier version has stored them."""
    ids = []
    for address in addresses:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO accounts_user (email, display_name) VALUES (%s, '') RETURNING id", [address])
            ids.append(cursor.fetchone()[0])
    return ids


def stored() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT email FROM accounts_user ORDER BY id")
        return [email for (email,) in cursor.fetchall()]


def test_migration__former_spellings__are_rewritten_and_raise_the_version(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    former = ["hong@한국.example", "ａda@example.com", "plain@example.com", "root@localhost", "홍길동@example.com"]
    ids = stored_before(*former)

    migrate_addresses()

    assert stored() == [KOREAN[1], "ada@example.com", "plain@example.com", "root@localhost", "홍길동@example.com"]
    assert list(User.objects.order_by("id").values_list("version", flat=True)) == [2, 2, 1, 1, 1]
    assert f"change it when you edit them: {ids[3]}" in caplog.text
    assert User.objects.get(email="ROOT@localhost").pk == ids[3], "and signs in as before"
    migrate_addresses()
    assert list(User.objects.order_by("id").values_list("version", flat=True)) == [2, 2, 1, 1, 1]


@pytest.mark.parametrize(
    "former",
    [
        ["other@example.com", "hong@한국.example", "hong@xn--3e0b707e.example"],
        ["other@한국.example", "ａda@example.com", "ada@example.com"],
        ["other@한국.example", "ａda@example.com", "aｄa@example.com"],
    ],
)
def test_migration__two_become_one__stops_with_their_ids_and_changes_nothing(former: list[str], database: str) -> None:
    ids = stored_before(*former)

    with pytest.raises(CommandError, match=f"nothing was changed: {ids[1]} and {ids[2]}\\. ") as stopped:
        migrate_addresses()

    assert "\n" not in str(stopped.value)
    assert "@" not in str(stopped.value)
    assert stored() == former


def test_migrate__two_become_one__is_one_line_and_no_traceback(fresh_database: str) -> None:
    def manage(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=BASE_DIR,
            env={**os.environ, "DATABASE_URL": fresh_database, "DJANGO_SETTINGS_MODULE": "project.settings"},
            capture_output=True,
            text=True,
            check=False,
        )

    before = manage("migrate", "accounts", "0003")
    assert before.returncode == 0, before.stderr
    _execute(
        fresh_database,
        "INSERT INTO accounts_user (email, display_name) "
        "VALUES ('hong@한국.example', ''), ('hong@xn--3e0b707e.example', '')",
    )
    stopped = manage("migrate")

    assert stopped.returncode == 1
    assert "Traceback" not in stopped.stderr
    assert "1 and 2" in stopped.stderr.splitlines()[-1]

    _execute(fresh_database, "DELETE FROM accounts_user WHERE id = 2")
    done = manage("migrate")
    assert done.returncode == 0, done.stderr


def _execute(database: str, statement: str) -> None:
    if database.startswith("sqlite"):
        with sqlite3.connect(database.removeprefix("sqlite:///")) as sqlite:
            sqlite.execute(statement)
        sqlite.close()
        return
    with psycopg.connect(database, autocommit=True) as postgresql:
        postgresql.execute(statement.encode())
