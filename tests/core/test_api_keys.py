"""API keys through the whole app: what they may do, and when they may do it no more."""

import datetime
from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, Permission

from fastapi_app.core import api_keys
from fastapi_app.core.api_keys import ApiKeys, open_api_keys
from fastapi_app.core.database import Database, open_database
from fastapi_app.core.errors import Unauthenticated
from fastapi_app.core.statements import Row, Statement
from project.accounts.models import User
from project.config import config
from project.identity.models import ApiKey
from tests.fixtures import assert_problem, bearer, give, make_api_key

pytestmark = pytest.mark.asyncio

HOUR = datetime.timedelta(hours=1)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class CountedDatabase:
    """Counts what is asked of a database."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        fetch_all = database.fetch_all

        async def counted(statement: Statement, /, **values: object) -> list[Row]:
            self.count += 1
            return await fetch_all(statement, **values)

        monkeypatch.setattr(database, "fetch_all", counted)


@pytest_asyncio.fixture
async def api(database: str) -> AsyncIterator[Database]:
    async with open_database(config) as opened:
        yield opened


@pytest.fixture
def reader_key(alice: User) -> str:
    """A key of Alice's, who holds what reading needs."""
    give(alice, "view_user")
    return make_api_key(alice, "users:read", "users:write")


async def test_key__of_somebody__speaks_for_them_with_those_of_its_scopes_that_they_hold(
    client: httpx2.AsyncClient, alice: User, reader_key: str
) -> None:
    script = bearer(reader_key)

    assert (await client.get("/api/v1/users/me", headers=script)).json()["id"] == alice.pk
    assert (await client.get("/api/v1/users", headers=script)).status_code == 200
    problem = assert_problem(await client.post("/api/v1/users", json={}, headers=script), 403)
    assert "users:write" in problem["detail"], "the key has the scope; Alice lacks the permissions"


make_key = sync_to_async(make_api_key)


async def verified_scopes(api: Database, key: str) -> frozenset[str]:
    return (await ApiKeys(api).verify(key)).principal.scopes


async def test_key__permissions_by_group_and_superuser__count(api: Database, alice: User, bob: User) -> None:
    key = await make_key(alice, "users:read", "users:write")
    assert await verified_scopes(api, key) == frozenset()

    group = await Group.objects.acreate(name="managers")
    async for permission in Permission.objects.filter(codename__in=["add_user", "change_user"]):
        await group.permissions.aadd(permission)
    await alice.groups.aadd(group)
    assert await verified_scopes(api, key) == {"users:write"}

    await group.permissions.aremove(await Permission.objects.aget(codename="add_user"))
    assert await verified_scopes(api, key) == frozenset(), "a scope needs all of its permissions"

    await User.objects.filter(pk=alice.pk).aupdate(is_superuser=True)
    assert await verified_scopes(api, key) == {"users:read", "users:write"}
    assert await verified_scopes(api, await make_key(bob, "users:read")) == frozenset()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"expires_at": now() - HOUR}, "expired"),
        ({"revoked_at": now()}, "revoked"),
        ({"revoked_at": now(), "expires_at": now() + HOUR}, "revoked"),
    ],
)
async def test_key__not_good_any_more__is_refused_without_repeating_it(
    fields: dict[str, object], reason: str, api: Database, alice: User
) -> None:
    key = await make_key(alice, "users:read", **fields)

    with pytest.raises(Unauthenticated, match=reason) as refusal:
        await ApiKeys(api).verify(key)

    assert key not in str(refusal.value)


@pytest.mark.parametrize("key", ["tdm_", "tdm_unknown", "tdm_é", "tdm_" + "x" * 5000, "tdm_\x00"])
async def test_key__unknown__is_refused(key: str, api: Database, alice: User) -> None:
    with pytest.raises(Unauthenticated, match="not known"):
        await ApiKeys(api).verify(key)


async def test_key__owner_is_deactivated__is_refused(api: Database, alice: User, reader_key: str) -> None:
    await User.objects.filter(pk=alice.pk).aupdate(is_active=False)

    with pytest.raises(Unauthenticated, match="owner is deactivated"):
        await ApiKeys(api).verify(reader_key)


async def test_key__expires_soon__is_believed_no_longer_than_that(api: Database, alice: User) -> None:
    expires_at = now() + datetime.timedelta(seconds=1)
    key = await make_key(alice, "users:read", expires_at=expires_at)

    assert (await ApiKeys(api).verify(key)).expires_at == expires_at.timestamp()


async def test_key__second_request__costs_no_round_trip(
    client: httpx2.AsyncClient, alice: User, reader_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = 0
    verify = ApiKeys.verify

    async def counted(self: ApiKeys, key: str) -> object:
        nonlocal looked_up
        looked_up += 1
        return await verify(self, key)

    monkeypatch.setattr(ApiKeys, "verify", counted)
    monkeypatch.setattr(api_keys, "BELIEVED_S", 60)

    for _ in range(3):
        assert (await client.get("/api/v1/users/me", headers=bearer(reader_key))).status_code == 200

    assert looked_up == 1


async def test_key__used_often__is_noted_once_a_minute_and_at_the_end(
    api: Database, alice: User, reader_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_api_keys(api) as keys:
        for _ in range(5):
            await keys.verify(reader_key)
        noted = CountedDatabase(api, monkeypatch)
        await keys.note_uses()
        await keys.note_uses()
        assert noted.count == 1
        first = (await ApiKey.objects.aget()).last_used_at
        await keys.verify(reader_key)

    last = (await ApiKey.objects.aget()).last_used_at
    assert first is not None
    assert last is not None
    assert now() - HOUR < first < last <= now()


async def test_key__never_used__is_noted_nowhere(api: Database, reader_key: str) -> None:
    async with open_api_keys(api):
        pass

    assert (await ApiKey.objects.aget()).last_used_at is None
