"""What is revoked, as a process learns it: in order or not, once or again, and for as long as it matters."""

import asyncio
import datetime
import logging
import math
import time
import timeit
import tracemalloc
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.db import connection

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
TOKEN = Revocable(user="7", user_version=3, token="jti", family="family", client="web", client_version=1, signer="kid")
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
        ("client", "web", 2, True, False),
        ("client", "web", 1, False, False),
        ("client", "other", 99, False, False),
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


async def test_view__a_client_event_of_an_earlier_release__ends_tokens_without_a_version(view: RevocationView) -> None:
    await revoke("client", "web")
    await view.poll()

    assert view.is_revoked(Revocable(client="web", client_version=0))
    assert not view.is_revoked(Revocable(client="web", client_version=1))


class Rows(Database):
    """A database of a vendor's, with the rows and the open transactions that the test wants."""

    def __init__(self, vendor: str = "postgresql") -> None:
        self.engine = SimpleNamespace(dialect=SimpleNamespace(name=vendor))  # type: ignore[assignment]
        self.rows: dict[int, Row] = {}
        self.oldest, self.following = 100, 100
        self.asked: list[tuple[float, float]] = []
        """The ids between which rows were asked for."""

    def commit(self, *ids: int, age_s: float = 0.0, subject: str = "") -> None:
        when = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age_s)
        for id_ in ids:
            row = {"id": id_, "kind": "token", "subject": subject or f"jti-{id_}", "version": None, "created_at": when}
            self.rows[id_] = row
        self.rows = dict(sorted(self.rows.items()))

    async def fetch_all(self, _statement: Statement, /, **values: Any) -> list[Row]:
        match values:
            case {"most": int(most)}:
                after, before = values.get("after", 0), values.get("before", math.inf)
                self.asked.append((after, before))
                found = [self.rows[id_] for id_ in reversed(self.rows) if after < id_ < before]
                return found[:most]
            case {"token": token}:
                return [row for row in self.rows.values() if row["subject"] == token]
        return [{"now": datetime.datetime.now(datetime.UTC), "oldest": self.oldest, "following": self.following}]

    def transaction(self) -> None:  # type: ignore[override]
        raise NotImplementedError


def revoked(view: RevocationView, *ids: int) -> set[int]:
    return {id_ for id_ in ids if view.is_revoked(Revocable(token=f"jti-{id_}"))}


async def test_view__a_lower_id_commits_later__is_not_missed() -> None:
    database = Rows()
    database.oldest = 90  # It writes 999, 1001 and 1002, and stays open for hours.
    view = RevocationView(database, remember_s=HOUR_S)
    database.commit(1000, 1003)
    await view.poll()
    assert revoked(view, 1000, 1001, 1002, 1003) == {1000, 1003}

    database.commit(1002)
    await view.poll()
    assert revoked(view, 1000, 1001, 1002, 1003) == {1000, 1002, 1003}
    for id_ in range(1004, 3000):
        database.commit(id_)
        if id_ % 100 == 0:
            await view.poll()
    database.commit(999, 1001)
    await view.poll()
    assert revoked(view, 999, 1001, 1004) == {999, 1001, 1004}, "also one from before the process began"


async def test_view__the_transaction_of_a_gap_has_ended__is_not_waited_for() -> None:
    database = Rows()
    view = RevocationView(database, remember_s=HOUR_S)
    database.commit(10, 12)
    await view.poll()
    await view.poll()
    assert (10, 12) in database.asked, "what was passed over is asked for again"
    database.oldest = database.following = 101
    await view.poll()

    database.asked.clear()
    await view.poll()
    assert database.asked == [(12, math.inf)]


async def test_view__sqlite_has_one_writer__waits_for_no_gap() -> None:
    database = Rows("sqlite")
    view = RevocationView(database, remember_s=HOUR_S)
    database.commit(10, 12)
    await view.poll()
    await view.poll()

    assert view._gaps == []


async def test_view__a_sequence_leaps__is_one_gap() -> None:
    database = Rows()
    view = RevocationView(database, remember_s=HOUR_S)
    database.commit(1, 10**12)
    await view.poll()

    assert len(view._gaps) == 1


async def test_view__more_gaps_than_it_keeps__looks_credentials_up_until_their_transactions_have_ended() -> None:
    database = Rows()
    view = RevocationView(database, remember_s=HOUR_S)
    await view.poll()
    assert view.lookups == 0
    database.commit(*range(2, 400, 2))

    await view.poll()
    asked = view.lookups
    assert asked > 0, "a late commit of an id that is not waited for would be missed in memory"
    await view.poll()
    assert view.lookups > asked, "and any poll may be the one after it"
    database.oldest = database.following = 101
    await view.poll()
    settled = view.lookups
    await view.poll()

    assert view.lookups == settled


async def test_view__longer_ago_than_any_token_lives__is_forgotten_unless_ended_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RevocationView, "MARGIN_S", 0.0)
    database = Rows()
    view = RevocationView(database, remember_s=HOUR_S)
    database.commit(1, age_s=HOUR_S - 0.2)
    database.commit(2, age_s=HOUR_S - 0.2, subject="jti-2")
    database.commit(3, subject="jti-2")
    await view.poll()
    assert revoked(view, 1, 2) == {1, 2}
    await asyncio.sleep(0.2)
    await view.poll()

    assert revoked(view, 1, 2) == {2}
    assert len(view._remembered) == 1


@pytest.mark.attack
@pytest.mark.parametrize("is_restarted", [False, True])
async def test_view__an_event_about_a_token_from_a_clock_an_hour_ahead__is_remembered_until_the_token_expires(
    is_restarted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, ttl_s, real = Rows(), 300.0, time.monotonic
    view = RevocationView(database, remember_s=ttl_s)
    database.commit(1, age_s=HOUR_S + ttl_s if is_restarted else 0.0)
    await view.poll()
    if not is_restarted:
        monkeypatch.setattr(time, "monotonic", lambda: real() + HOUR_S + ttl_s)
        await view.poll()

    assert revoked(view, 1) == {1}


async def test_view__more_than_memory_holds__keeps_the_latest_and_says_that_others_are_to_be_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RevocationView, "BATCH", 10)
    monkeypatch.setattr(RevocationView, "MOST_REMEMBERED", 100)
    database = Rows()
    database.commit(*range(1, 101))
    few, many = (RevocationView(database, remember_s=HOUR_S) for _ in range(2))
    await few.poll()
    assert (len(few._remembered), few.lookups) == (100, 1), "a bound that is reached may hide more"
    database.commit(*range(101, 1001))

    await many.poll()
    await few.poll()

    for view in (few, many):
        assert len(view._remembered) <= 100
        assert revoked(view, 901, 999, 1000) >= {999, 1000}
        assert view.lookups > 0
        assert await view.look_up(Revocable(token="jti-5"))
        assert not await view.look_up(Revocable(token="jti-1001"))


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


@pytest.mark.attack
@pytest.mark.postgresql
async def test_two_transactions__the_lower_id_commits_last__is_not_missed(view: RevocationView) -> None:
    insert = "insert into identity_revocationevent (kind, subject) values ('token', %s) returning id"
    with psycopg.connect(config.database) as early, psycopg.connect(config.database, autocommit=True) as late:
        first = early.execute(insert, ["jti"]).fetchone()
        await view.poll()  # As a process that starts while it is open.
        for number in range(1200):  # More than a batch.
            second = late.execute(insert, [f"other-{number}"]).fetchone()
        assert first is not None
        assert second is not None
        assert first[0] < second[0]
        for _ in range(3):
            await view.poll()
        assert not view.is_revoked(TOKEN)
        assert len(view._gaps) == 1, "it is waited for, however long that takes"

        early.commit()
        await view.poll()

    assert view.is_revoked(TOKEN)
    await view.poll()
    assert view._gaps == []


@pytest.mark.attack
@pytest.mark.postgresql
async def test_open_transaction__when_memory_is_full__is_found_by_look_up_at_the_poll_after_its_commit(
    view: RevocationView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RevocationView, "BATCH", 10)
    monkeypatch.setattr(RevocationView, "MOST_REMEMBERED", 20)
    insert = "insert into identity_revocationevent (kind, subject) values ('token', %s)"
    with psycopg.connect(config.database) as early, psycopg.connect(config.database, autocommit=True) as late:
        early.execute(insert, ["jti"])
        for number in range(50):
            late.execute(insert, [f"other-{number}"])
        await view.poll()
        asked = view.lookups
        assert not await view.look_up(TOKEN)

        early.commit()
        await view.poll()

    assert view.lookups > asked, "so a credential that was looked up before is looked up again"
    assert await view.look_up(TOKEN)


async def add_events(count: int) -> None:
    def add() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO identity_revocationevent (kind, subject) WITH RECURSIVE numbers(number) AS"
                " (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < %s)"
                " SELECT 'family', 'family-' || number FROM numbers",
                [count],
            )

    await sync_to_async(add)()


@pytest.mark.attack
async def test_table__fifty_thousand_events__start_and_poll_take_little_time_and_memory(
    api: Database, view: RevocationView
) -> None:
    """As of a million, but for the time that it takes to write them; docs/identity-verifier.md has those figures."""
    await api.ping()
    await add_events(50_000)
    for _start_then_poll in range(2):
        tracemalloc.start()
        began = time.monotonic()
        await view.poll()
        took_s, (_kept, peak) = time.monotonic() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert peak < 20e6, "bytes; measured 6e6, whatever the number of events"
        assert took_s < 10, "with room for a busy machine, and for tracing; measured 0.1 s"
        assert len(view._remembered) <= view.MOST_REMEMBERED
        assert view.lookups > 0
        assert await view.look_up(Revocable(family="family-1"))
        await add_events(50_000)


async def test_check__of_a_token__costs_about_a_microsecond_among_ten_thousand_events() -> None:
    database = Rows()
    database.commit(*range(1, 10_001))
    view = RevocationView(database, remember_s=HOUR_S)
    await view.poll()

    per_check = min(timeit.repeat(lambda: view.is_revoked(TOKEN), number=1000, repeat=5)) / 1000

    assert per_check < 10e-6, "with room for a busy machine; measured 0.42 us"
