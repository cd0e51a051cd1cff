"""What ends tokens, by whichever hand, and the events that tell every process."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connection, transaction

from project.accounts.models import User
from project.clients.models import Client
from project.identity import revocation, triggers
from project.identity.models import RevocationEvent
from tests.fixtures import give
from tests.identity.flows import (
    SECRET,
    Browser,
    Verifier,
    claims,
    exchange,
    get_code,
    is_active,
    log_in_at,
    machine_client,
    post,
    refresh,
    web_client,
)


def sql(statement: str) -> Callable[[User], None]:
    """A writer that knows nothing of Django's models, as the API is one."""

    def write(user: User) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement, {"id": user.pk})

    return write


def set_password(user: User) -> None:
    user.set_password("another")
    user.save()


def join(user: User) -> None:
    user.groups.add(Group.objects.get(name="staff"))


CHANGES: list[tuple[str, Callable[[User], Any]]] = [
    ("password", set_password),
    ("password by sql", sql("UPDATE accounts_user SET password = 'x' WHERE id = %(id)s")),
    ("deactivation", lambda user: User.objects.filter(pk=user.pk).update(is_active=False)),
    ("deactivation by sql", sql("UPDATE accounts_user SET is_active = false WHERE id = %(id)s")),
    ("superuser", lambda user: User.objects.filter(pk=user.pk).update(is_superuser=True)),
    ("permission given", lambda user: give(user, "add_user")),
    ("permission taken", lambda user: user.user_permissions.clear()),
    ("group joined", join),
    ("all tokens", revocation.end_user),
]


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=[name for name, _change in CHANGES])
def test_user__changed_by_whatever_hand__old_tokens_are_refused_and_new_ones_taken(
    name: str, change: Callable[[User], Any], browser: Browser, web: Client, reader: User
) -> None:
    Group.objects.create(name="staff")
    bob = User.objects.create_user("bob@example.com")
    tokens = log_in_at(web, browser)
    version = claims(tokens["access_token"])["token_version"]

    change(reader)

    reader.refresh_from_db()
    event = RevocationEvent.objects.get(kind="user", version__gt=version)
    assert (event.subject, event.version) == (str(reader.pk), reader.token_version)
    assert reader.token_version > version
    assert not is_active(tokens["access_token"])
    bob.refresh_from_db()
    assert bob.token_version == 0, "it was not he"


def test_group__its_permissions_change__ends_the_tokens_of_its_members_once(
    database: str, alice: User, bob: User
) -> None:
    group = Group.objects.create(name="staff")
    group.user_set.set([alice])
    RevocationEvent.objects.all().delete()

    give(group, "view_user", "add_user", "change_user")

    events = RevocationEvent.objects.filter(kind="user")
    assert {event.subject for event in events} == {str(alice.pk)}
    if connection.vendor == "postgresql":
        assert events.count() == 1, "one statement, one event"
    group.delete()
    alice.refresh_from_db()
    assert alice.token_version > max(event.version or 0 for event in events)


def test_user__renamed_or_logged_in__keeps_their_tokens(browser: Browser, web: Client, reader: User) -> None:
    tokens = log_in_at(web, browser)

    reader.refresh_from_db()
    reader.display_name = "Alicia"
    reader.save()
    Browser().log_in()

    assert is_active(tokens["access_token"])


def test_user__saved_from_an_old_instance__does_not_bring_old_tokens_back(reader: User) -> None:
    stale = User.objects.get(pk=reader.pk)
    revocation.end_user(reader)
    reader.refresh_from_db()

    stale.display_name = "Alicia"
    stale.save()

    assert User.objects.get(pk=reader.pk).token_version == reader.token_version


def test_change__rolled_back__writes_no_event(reader: User) -> None:
    RevocationEvent.objects.all().delete()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        User.objects.update(is_active=False)
        raise ZeroDivisionError

    assert not RevocationEvent.objects.exists()


def test_triggers__a_migration_changes_the_users_table__stand_not_in_its_way(fresh_database: str) -> None:
    def manage(*arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        environment = {**os.environ, "DATABASE_URL": fresh_database}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    manage("migrate")
    manage("migrate", "accounts", "0002")  # Takes a column away, and brings it back.
    manage("migrate")

    missing = "from project.identity import triggers; print(triggers.missing())"
    assert manage("shell", "--no-imports", "-c", missing).strip() == "[]"


def test_triggers__lost_with_their_table__are_there_again_after_migrate(reader: User) -> None:
    with connection.cursor() as cursor:
        triggers._drop(cursor, triggers._present(cursor))
    User.objects.update(is_superuser=True)
    version = User.objects.get().token_version

    call_command("migrate", verbosity=0, run_syncdb=True)

    User.objects.update(is_superuser=False)
    assert User.objects.get().token_version == version + 1


# By clients


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "nonsense", ""])
def test_revoke__either_token__ends_the_log_in(which: str, hint: str, browser: Browser, web: Client) -> None:
    tokens = log_in_at(web, browser)

    answer = post("/o/revoke/", token=tokens[which], token_type_hint=hint, client_id="web")

    assert answer.status_code == 200
    assert not is_active(tokens["access_token"])
    assert refresh(web, tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert RevocationEvent.objects.filter(kind="family", subject=claims(tokens["access_token"])["family"]).exists()


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
def test_revoke__by_another_client__changes_nothing_and_tells_nothing(
    which: str, browser: Browser, web: Client
) -> None:
    tokens = log_in_at(web, browser)
    web_client("other")

    assert post("/o/revoke/", token=tokens[which], client_id="other").status_code == 200
    assert post("/o/revoke/", token="nonsense", client_id="other").status_code == 200

    assert is_active(tokens["access_token"])
    assert refresh(web, tokens["refresh_token"]).status_code == 200


def test_revoke__machine_token__ends_that_one(database: str) -> None:
    machine_client()

    def ask() -> str:
        fields = {"client_id": "machine", "client_secret": SECRET}
        token: str = post("/o/token/", grant_type="client_credentials", **fields).json()["access_token"]
        return token

    first, second = ask(), ask()
    assert post("/o/revoke/", token=first, client_id="machine").status_code == 401, "it has to show its secret"
    assert post("/o/revoke/", token=first, client_id="machine", client_secret=SECRET).status_code == 200

    assert not is_active(first)
    assert is_active(second)
    assert RevocationEvent.objects.get(kind="token").subject == claims(first)["jti"]


def test_client__all_ended__gives_out_nothing_for_what_it_had(browser: Browser, web: Client) -> None:
    pkce = Verifier()
    waiting = get_code(browser, web, pkce)
    tokens = log_in_at(web, browser)

    revocation.end_client(web, reason="test", with_log_ins=True)

    assert not is_active(tokens["access_token"])
    assert refresh(web, tokens["refresh_token"]).status_code == 400
    assert exchange(web, waiting, pkce).status_code == 400


# Introspection


def test_introspection__is_for_clients_that_may(browser: Browser, web: Client) -> None:
    tokens = log_in_at(web, browser)
    machine_client("asker", may_introspect=True)
    machine_client("curious")

    def ask(**fields: str) -> Any:
        return post("/o/introspect/", token=tokens["access_token"], **fields)

    told = ask(client_id="asker", client_secret=SECRET)
    assert told.json() == {"active": True, "token_type": "Bearer", **claims(tokens["access_token"])}
    assert told["Cache-Control"] == "no-store"
    assert ask(client_id="curious", client_secret=SECRET).status_code == 403
    assert ask(client_id="asker", client_secret="wrong").status_code == 401
    assert ask(client_id="web").status_code == 401
    assert ask(client_id="web", grant_type="urn:ietf:params:oauth:grant-type:device_code").status_code == 401
    assert ask().status_code == 401
    assert browser.get("/o/introspect/", token=tokens["access_token"]).status_code == 405


def test_introspection__of_a_refresh_token__until_it_is_used(browser: Browser, web: Client) -> None:
    tokens = log_in_at(web, browser)
    assert is_active(tokens["refresh_token"])

    refresh(web, tokens["refresh_token"])

    assert not is_active(tokens["refresh_token"])
    assert not is_active("nonsense")
    assert not is_active(tokens["id_token"]), "no access token"


# Logging out


def test_log_out__ends_what_this_browser_allowed_and_nothing_else(browser: Browser, web: Client, reader: User) -> None:
    elsewhere = Browser()
    elsewhere.log_in()
    here, there = log_in_at(web, browser), log_in_at(web, elsewhere)

    page = browser.submit("/accounts/logout/")

    assert "You are signed out" in page.content.decode()
    assert not is_active(here["access_token"])
    assert refresh(web, here["refresh_token"]).status_code == 400
    assert is_active(there["access_token"])
    assert refresh(web, there["refresh_token"]).status_code == 200
    assert re.search("accounts/login", browser.get("/device/")["Location"])


def test_events__old__are_forgotten_by_the_nightly_job(reader: User, capsys: pytest.CaptureFixture[str]) -> None:
    revocation.end_token("old", reason="test")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE identity_revocationevent SET created_at = '2020-01-01 00:00:00'")
    revocation.end_token("new", reason="test")

    call_command("clear_identity")

    assert [event.subject for event in RevocationEvent.objects.all()] == ["new"]
