"""What is revoked, as a process learns it: in order or not, once or again, and for as long as it matters."""

import asyncio
import datetime
import logging
import timeit
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio

from fastapi_app.core.database import Database, open_database
from fastapi_app.core.errors import Unavailable
from fastapi_app.core.revocation import Revocable, RevocationView, open_revocations
from fastapi_app.core.statements import Row, Statement
from fastapi_app.users.repository import UserRepository
from project.accounts.models import User
from project.config import config
from project.identity.models import RevocationEvent

pytestmark = pytest.mark.asyncio

HOUR_S = 3600.0
TOKEN = Revocable(user="7", user_version=3, token="jti", family="family", client="web", issued_at=1000.0, signer="kid")
KEY = Revocable(user="7", user_version=3, key="5")


@pytest_asyncio.fixture
async def api(database: str) -> AsyncIterator[Database]:
    async with open_database(config) as opened:
        yield opened


@pytest.fixture
def view(api: Database) -> RevocationView:
    return RevocationView(api, remember_s=HOUR_S)


async def revoke(kind: str, subject: str, version: int | None = None) -> RevocationEvent:
    return await RevocationEvent.objects.acreate(kind=kind, subject=subject, version=version)


async def test_view__nothing_revoked__lets_all_pass(view: RevocationView) -> None:
    await view.poll()

    assert not view.is_revoked(TOKEN)
    assert not view.is_revoked(KEY)
    assert not view.is_revoked(Revocable())


@pytest.mark.parametrize(
    ("kind", "subject", "version", "ends_token", "ends_key"),
    [
        ("token", "jti", None, True, False),
        ("token", "other", None, False, False),
        ("family", "family", None, True, False),
        ("family", "jti", None, False, False),
        ("user", "7", 4, True, True),
        ("user", "7", 3, False, False),
        ("user", "8", 99, False, False),
        ("client", "web", None, True, False),
        ("client", "other", None, False, False),
        ("key", "5", None, False, True),
        ("signer", "kid", None, True, False),
        ("signer", "other", None, False, False),
        ("planet", "7", None, False, False),
    ],
)
async def test_view__an_event__ends_what_it_is_about_and_nothing_else(
    kind: str, subject: str, version: int | None, ends_token: bool, ends_key: bool, view: RevocationView
) -> None:
    await revoke(kind, subject, version)
    await view.poll()

    assert view.is_revoked(TOKEN) is ends_token
    assert view.is_revoked(KEY) is ends_key
    assert not view.is_revoked(Revocable())


async def test_view__a_client_that_was_ended__may_have_new_tokens(view: RevocationView) -> None:
    event = await revoke("client", "web")
    await view.poll()

    ended_at = event.created_at.timestamp()
    assert view.is_revoked(Revocable(client="web", issued_at=ended_at - 1))
    assert not view.is_revoked(Revocable(client="web", issued_at=ended_at + 1))


class LateCommits(Database):
    """A database in which transactions commit in the order that the test wants."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.asked_after: list[int] = []

    def commit(self, *ids: int) -> None:
        when = datetime.datetime.now(datetime.UTC)
        self.rows += [
            {"id": id_, "kind": "token", "subject": f"jti-{id_}", "version": None, "created_at": when} for id_ in ids
        ]
        self.rows.sort(key=lambda row: row["id"])

    async def fetch_all(self, _statement: Statement, /, **values: object) -> list[Row]:
        after, since = values["after"], values["since"]
        assert isinstance(after, int)
        assert isinstance(since, datetime.datetime)
        self.asked_after.append(after)
        return [row for row in self.rows if row["id"] > after and row["created_at"] > since]

    def transaction(self) -> None:  # type: ignore[override]
        raise NotImplementedError


def revoked(view: RevocationView, *ids: int) -> set[int]:
    return {id_ for id_ in ids if view.is_revoked(Revocable(token=f"jti-{id_}"))}


async def test_view__a_lower_id_commits_later__is_not_missed() -> None:
    database = LateCommits()
    view = RevocationView(database, remember_s=HOUR_S)
    database.commit(1000, 1003)
    await view.poll()
    assert revoked(view, 1000, 1001, 1002, 1003) == {1000, 1003}

    database.commit(1002)
    await view.poll()
    assert revoked(view, 1000, 1001, 1002, 1003) == {1000, 1002, 1003}
    database.commit(999, 1001, 1004)
    await view.poll()
    assert revoked(view, 999, 1001, 1004) == {999, 1001, 1004}, "also one from before the process began"


async def test_view__an_id_never_comes__is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    database = LateCommits()
    view = RevocationView(database, remember_s=HOUR_S)
    database.commit(10, 12)
    await view.poll()
    await view.poll()
    assert database.asked_after[-1] < 11, "what was passed over is asked for again"

    monkeypatch.setattr(RevocationView, "LONGEST_TRANSACTION_S", -1.0)
    await view.poll()
    await view.poll()
    assert database.asked_after[-1] == 12


async def test_view__a_sequence_leaps__waits_for_a_bounded_number_of_ids() -> None:
    database = LateCommits()
    view = RevocationView(database, remember_s=HOUR_S)
    database.commit(1, 10**12)
    await view.poll()

    assert len(view._missing) <= RevocationView.MOST_MISSING


async def test_view__longer_ago_than_any_token_lives__is_forgotten_unless_ended_again() -> None:
    database = LateCommits()
    view = RevocationView(database, remember_s=HOUR_S)
    database.commit(1, 2, 3)
    database.rows[2]["subject"] = "jti-2"
    soon_forgotten = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=HOUR_S - 0.2)
    for row in database.rows[:2]:
        row["created_at"] = soon_forgotten
    await view.poll()
    assert revoked(view, 1, 2) == {1, 2}
    await asyncio.sleep(0.2)
    await view.poll()

    assert revoked(view, 1, 2) == {2}
    assert len(view._applied) == 1


async def test_view__the_database_is_away__goes_stale_tells_once_and_recovers(
    api: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RevocationView, "POLL_EVERY_S", 0.01)
    monkeypatch.setattr(RevocationView, "STALE_AFTER_S", 0.2)
    caplog.set_level(logging.INFO)

    async def fail(_statement: Statement, /, **_values: object) -> list[Row]:
        raise Unavailable("The database does not answer just now.")

    async with open_revocations(api, remember_s=HOUR_S) as view:
        assert not view.is_stale
        with monkeypatch.context() as outage:
            outage.setattr(api, "fetch_all", fail)
            await asyncio.sleep(0.4)
            assert view.is_stale
        await revoke("token", "jti")
        await asyncio.sleep(0.5)
        assert not view.is_stale
        assert view.is_revoked(TOKEN)

    told = [record.getMessage() for record in caplog.records if record.name == "fastapi_app.core.revocation"]
    assert told == [
        "revocations cannot be read: Unavailable: The database does not answer just now.",
        "revocations can be read again",
    ]


@pytest.mark.postgresql
async def test_view__the_servers_connections_are_cut__is_read_again(
    api: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RevocationView, "POLL_EVERY_S", 0.02)
    async with open_revocations(api, remember_s=HOUR_S) as view:
        with psycopg.connect(config.database, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'tandem-api'"
            )
        await revoke("token", "jti")
        await asyncio.sleep(0.5)

        assert view.is_revoked(TOKEN)


async def test_deactivated_through_the_database__ends_tokens_once_it_is_committed(
    api: Database, view: RevocationView, alice: User
) -> None:
    token = Revocable(user=str(alice.pk), user_version=0)
    async with api.transaction() as transaction:
        await UserRepository(transaction).change(alice.pk, {"is_active": False}, None)
    await view.poll()
    assert not view.is_revoked(token)

    async with api.transaction() as transaction:
        await UserRepository(transaction).change(alice.pk, {"is_active": False}, None)
        await transaction.commit()
    await view.poll()

    assert view.is_revoked(token)
    await alice.arefresh_from_db()
    assert alice.token_version == 1
    assert not view.is_revoked(Revocable(user=str(alice.pk), user_version=1)), "a token that was issued since is good"
    event = await RevocationEvent.objects.aget()
    assert (event.kind, event.subject, event.version) == ("user", str(alice.pk), 1)


async def test_check__of_a_token__costs_about_a_microsecond_among_ten_thousand_events() -> None:
    database = LateCommits()
    database.commit(*range(10_000))
    view = RevocationView(database, remember_s=HOUR_S)
    await view.poll()

    per_check = min(timeit.repeat(lambda: view.is_revoked(TOKEN), number=1000, repeat=5)) / 1000

    assert per_check < 10e-6, "with room for a busy machine; measured 0.42 us"
