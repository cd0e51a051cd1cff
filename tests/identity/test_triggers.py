"""The triggers that end tokens: in databases of other names, after a loss, and in the way of no migration."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, Permission
from django.core.management import CommandError, call_command
from django.db import connection

from project.accounts.models import User
from project.clients.models import Client
from project.config import BASE_DIR, config
from project.identity import triggers
from project.identity.models import RevocationEvent
from project.identity.tokens import issue_access_token
from tests.identity.flows import is_active, web_client

type Manage = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def site(fresh_database: str, tmp_path: Path) -> Path:
    """A copy of the project, whose models a story may change, with a database of its own."""
    for part in ("project", "fastapi_app"):
        shutil.copytree(BASE_DIR / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(BASE_DIR / "manage.py", tmp_path)
    return tmp_path


@pytest.fixture
def manage(site: Path, fresh_database: str) -> Manage:
    def run(*arguments: str, fails: bool = False) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "DATABASE_URL": fresh_database,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PYTHONPATH": str(site),
        }
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done

    return run


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


CHANGE_A_USER = """
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from project.identity import triggers
from project.identity.models import RevocationEvent
from project.identity.tokens import issue_access_token
users = get_user_model().objects
ada = users.create_user("ada@example.com", "first")
group = Group.objects.create(name="staff")
def told(change):
    before = RevocationEvent.objects.count()
    change()
    return RevocationEvent.objects.count() > before
print(triggers.missing(), [
    told(lambda: users.update(password="x")),
    told(lambda: group.user_set.add(ada)),
    told(lambda: group.permissions.add(Permission.objects.first())),
    told(lambda: ada.user_permissions.add(Permission.objects.first())),
    told(lambda: ada.delete()),
])
"""


@pytest.mark.attack
def test_users_table__renamed_and_its_columns_altered_forth_and_back__its_changes_still_end_tokens(
    site: Path, manage: Manage
) -> None:
    manage("migrate")
    models = site / "project" / "accounts" / "models.py"
    replace(models, "    class Meta:\n", '    class Meta:\n        db_table = "the people"\n')
    replace(models, '"password", max_length=128', '"password", max_length=200')
    replace(models, "token_version = models.BigInt", "token_version = models.Int")
    before = max(path.stem for path in (models.parent / "migrations").glob("0*.py"))
    manage("makemigrations", "accounts", "--name", "rename")

    manage("migrate")
    manage("migrate", "accounts", before)
    manage("migrate")

    assert manage("shell", "--no-imports", "-c", CHANGE_A_USER).stdout.strip() == "[] [True, True, True, True, True]"


@pytest.mark.attack
def test_migrate__the_user_model_lacks_what_triggers_need__stops_with_one_line(site: Path, manage: Manage) -> None:
    models = site / "project" / "accounts" / "models.py"
    replace(models, "    token_version = models", "    tokens = models")
    manage("makemigrations", "accounts", "--name", "lacking", "--no-input")

    stopped = manage("migrate", fails=True)

    assert "(identity.E001) The triggers that end tokens cannot be created" in stopped.stderr
    assert "User has no field named 'token_version'" in stopped.stderr
    assert "Traceback" not in stopped.stderr


@pytest.mark.attack
def test_migrate__a_table_was_renamed_by_hand__stops_with_one_line(database: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE accounts_user_groups RENAME TO memberships")
    try:
        with pytest.raises(CommandError, match=r"accounts_user_groups is missing$"):
            call_command("migrate", verbosity=0, run_syncdb=True)
        assert triggers.missing() == ["accounts_user_groups"]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE memberships RENAME TO accounts_user_groups")
        call_command("migrate", verbosity=0, run_syncdb=True)
    assert triggers.missing() == []


def lose_triggers() -> None:
    with connection.cursor() as cursor:
        triggers._drop(cursor, triggers._present(cursor))


@pytest.fixture
def without_triggers(database: str) -> Any:
    lose_triggers()
    yield
    call_command("migrate", verbosity=0, run_syncdb=True)


@pytest.mark.attack
def test_triggers_lost__a_system_check_says_so_and_migrate_adds_them(
    without_triggers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("check", databases=["default"])
    told = capsys.readouterr().err
    assert "identity.W001" in told
    assert "accounts_user, accounts_user_groups" in told

    call_command("migrate", verbosity=0, run_syncdb=True)
    capsys.readouterr()
    call_command("check", databases=["default"])

    assert "identity.W001" not in capsys.readouterr().err


@pytest.mark.attack
@pytest.mark.asyncio
async def test_triggers_lost__readiness_fails_and_names_it(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/readyz")).json()["checks"]["triggers"] == "ok"
    await sync_to_async(lose_triggers)()
    try:
        lost = await client.get("/readyz")
    finally:
        await sync_to_async(call_command)("migrate", verbosity=0, run_syncdb=True)

    assert (lost.status_code, lost.json()["checks"]["triggers"]) == (503, "failed")
    assert (await client.get("/readyz")).status_code == 200


@pytest.mark.postgresql
def test_triggers_disabled__count_as_missing(database: str) -> None:
    with psycopg.connect(config.database, autocommit=True) as by_hand:
        by_hand.execute("ALTER TABLE accounts_user DISABLE TRIGGER USER")
    try:
        assert triggers.missing() == ["accounts_user"]
    finally:
        call_command("migrate", verbosity=0, run_syncdb=True)
    assert triggers.missing() == []


def test_production__triggers_are_missing__does_not_start(without_triggers: None, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "ENVIRONMENT": "production",
        "DATABASE_URL": config.database,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "SECRET_KEY": "long enough, and used by this test alone 1234567890 abcdefghij",
        "ALLOWED_HOSTS": "127.0.0.1",
        "BASE_URL": "https://example.com",
        "VAR_DIR": str(tmp_path),
    }
    start = "import asyncio; from django import setup; setup(); from project.database import django_database as d;"
    start += "from project.config import config; asyncio.run(d(config).__aenter__())"

    started = subprocess.run(
        [sys.executable, "-c", start], env=environment, capture_output=True, text=True, check=False
    )

    assert re.search("StartupError: triggers that end tokens are missing on accounts_user, ", started.stderr)
    assert "run 'python manage.py migrate'" in started.stderr


# Clients


@pytest.fixture
def app(database: str) -> Client:
    return web_client()


def client_events() -> list[int | None]:
    events = RevocationEvent.objects.filter(kind="client", subject="web").order_by("id")
    return [event.version for event in events]


def test_client__stopped_or_narrowed_by_sql__ends_its_tokens(app: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE clients_client SET is_active = false WHERE client_id = 'web'")
        cursor.execute("UPDATE clients_client SET allowed_scopes = '' WHERE client_id = 'web'")
        cursor.execute("UPDATE clients_client SET name = 'Other' WHERE client_id = 'web'")

    assert client_events() == [2, 3]


def test_client__deleted_and_made_again__has_tokens_that_are_newer_than_the_events(app: Client) -> None:
    app.delete()
    again = web_client()

    again.refresh_from_db()

    assert set(client_events()) == {2}
    assert again.token_version == 2


def test_client__saved_from_an_old_instance__does_not_bring_old_tokens_back(app: Client) -> None:
    stale = Client.objects.get(pk=app.pk)
    Client.objects.update(is_active=False)
    Client.objects.update(is_active=True)
    stale.name = "Other"
    stale.save()

    assert Client.objects.get(pk=app.pk).token_version == 3


def test_membership__moved_by_sql__ends_the_tokens_of_both_users(database: str, alice: User, bob: User) -> None:
    Group.objects.create(name="staff").user_set.add(alice)
    RevocationEvent.objects.all().delete()

    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_user_groups SET user_id = %s", [bob.pk])

    assert {event.subject for event in RevocationEvent.objects.all()} == {str(alice.pk), str(bob.pk)}


@pytest.mark.attack
def test_client__takes_the_id_of_a_deleted_one__has_tokens_that_are_newer_than_the_events(app: Client) -> None:
    for is_on in (False, True, False):
        Client.objects.update(is_active=is_on)
    app.delete()
    other = web_client("other")

    Client.objects.filter(pk=other.pk).update(client_id="web")

    other.refresh_from_db()
    assert other.token_version == max(version or 0 for version in client_events())
    assert RevocationEvent.objects.filter(kind="client", subject="other").exists()


@pytest.mark.attack
@pytest.mark.parametrize("by_sql", [False, True])
def test_user__deleted_and_made_again_with_the_same_id__has_new_tokens_only(by_sql: bool, alice: User) -> None:
    old = issue_access_token(alice, [], ttl_s=300, client_id="tests")
    row: dict[str, Any] = {**User.objects.values().get(pk=alice.pk)}
    User.objects.all().delete()
    assert not is_active(old)

    if by_sql:
        names = ", ".join(map(connection.ops.quote_name, row))
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO accounts_user ({names}) VALUES ({', '.join(['%s'] * len(row))})", list(row.values())
            )
    else:
        User.objects.create(**row)

    again = User.objects.get(pk=alice.pk)
    new = issue_access_token(again, [], ttl_s=300, client_id="tests")
    assert [is_active(old), is_active(new)] == [False, True]
    ended = RevocationEvent.objects.filter(kind="user", subject=str(alice.pk), version__gt=again.token_version)
    assert not ended.exists(), "the API takes the new token"


@pytest.mark.postgresql
@pytest.mark.attack
@pytest.mark.parametrize("table", ["accounts_user_groups", "auth_group_permissions", "auth_group"])
def test_memberships__truncated__end_the_tokens_of_their_users(table: str, alice: User, bob: User) -> None:
    group = Group.objects.create(name="staff")
    group.user_set.add(alice)
    group.permissions.add(Permission.objects.get(codename="view_user"))
    RevocationEvent.objects.all().delete()

    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {table} CASCADE")

    assert {event.subject for event in RevocationEvent.objects.all()} == {str(alice.pk)}


@pytest.mark.postgresql
@pytest.mark.attack
@pytest.mark.parametrize("search_path", ["", "decoy, public"])
def test_user__written_under_another_search_path__still_ends_tokens(search_path: str, alice: User) -> None:
    group = Group.objects.create(name="staff")
    RevocationEvent.objects.all().delete()

    with psycopg.connect(config.database) as by_hand:
        by_hand.execute("CREATE SCHEMA decoy")
        for table in ("accounts_user", "identity_revocationevent", "oauth2_provider_refreshtoken"):
            by_hand.execute(f"CREATE TABLE decoy.{table} (LIKE public.{table} INCLUDING ALL)")
        by_hand.execute("SELECT set_config('search_path', %s, false)", [search_path])
        by_hand.execute("UPDATE public.accounts_user SET is_active = false")
        by_hand.execute(
            "INSERT INTO public.accounts_user_groups (user_id, group_id) VALUES (%s, %s)", [alice.pk, group.pk]
        )
        by_hand.execute("DROP SCHEMA decoy CASCADE")

    assert list(RevocationEvent.objects.order_by("version").values_list("version", flat=True)) == [1, 2]
