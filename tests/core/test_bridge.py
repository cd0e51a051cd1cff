"""The bridge: Django's functions, called while the API serves a request."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from django.contrib.auth.models import Group, Permission
from django.db import IntegrityError, connection, transaction
from fastapi import FastAPI

from fastapi_app.core.bridge import call_django, has_permission
from project.accounts.models import User

pytestmark = pytest.mark.asyncio


def make_groups(*names: str) -> int:
    """A use case of Django's side: all of it happens, or nothing."""
    with transaction.atomic():
        for name in names:
            Group.objects.create(name=name)
    return len(names)


def group_names() -> list[str]:
    return sorted(Group.objects.values_list("name", flat=True))


def current_thread() -> str:
    time.sleep(0.1)
    return f"{threading.current_thread().name} {threading.get_ident()}"


api = FastAPI()


@api.post("/groups/{names}")
async def post_groups(names: str) -> int:
    return await call_django(make_groups, *names.split(","))


@api.get("/groups")
async def get_groups() -> list[str]:
    return await call_django(group_names)


@api.get("/threads")
async def get_threads() -> list[str]:
    return [await call_django(current_thread), await call_django(current_thread)]


@api.get("/permissions/{user_id}/{permission}")
async def get_permission(user_id: int, permission: str) -> bool:
    return await has_permission(user_id, permission)


@pytest_asyncio.fixture
async def requests(database: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(api), base_url="http://testserver") as client:
        yield client


async def test_call_django__orm_in_atomic__is_committed(requests: httpx2.AsyncClient) -> None:
    assert (await requests.post("/groups/red,blue")).json() == 2

    assert (await requests.get("/groups")).json() == ["blue", "red"]


async def test_call_django__error_in_atomic__is_raised_here_and_rolls_all_of_it_back(
    requests: httpx2.AsyncClient,
) -> None:
    with pytest.raises(IntegrityError):
        await requests.post("/groups/red,blue,red")

    assert (await requests.get("/groups")).json() == []


async def test_call_django__each_call__has_a_thread_of_its_own_and_gives_its_connection_back(
    requests: httpx2.AsyncClient,
) -> None:
    def connection_in_use() -> Any:
        connection.ensure_connection()
        return connection

    answers = [answer.json() for answer in await asyncio.gather(*(requests.get("/threads") for _ in range(4)))]
    used = await call_django(connection_in_use)

    assert all(thread.startswith("django") for threads in answers for thread in threads)
    assert used.connection is None


async def test_call_django__beside_each_other__do_not_wait(requests: httpx2.AsyncClient) -> None:
    begun = time.perf_counter()

    await asyncio.gather(*(requests.get("/threads") for _ in range(8)))

    assert time.perf_counter() - begun < 0.8  # One after the other they would take 8 x 2 x 0.1 s.


async def test_call_django__cancelled__its_transaction_runs_to_its_end(database: str) -> None:
    def slowly() -> None:
        time.sleep(0.2)
        make_groups("red")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call_django(slowly), 0.05)
    await asyncio.sleep(0.4)

    assert await call_django(group_names) == ["red"]


@pytest.fixture
def viewer(alice: User) -> User:
    """Alice, in a group that may view users."""
    group = Group.objects.create(name="viewers")
    group.permissions.add(Permission.objects.get(content_type__app_label="accounts", codename="view_user"))
    alice.groups.add(group)
    return alice


async def test_has_permission__by_a_group__is_granted_and_no_other(requests: httpx2.AsyncClient, viewer: User) -> None:
    assert (await requests.get(f"/permissions/{viewer.pk}/accounts.view_user")).json() is True
    assert (await requests.get(f"/permissions/{viewer.pk}/accounts.delete_user")).json() is False


async def test_has_permission__deactivated_or_unknown_user__has_none(
    requests: httpx2.AsyncClient, viewer: User
) -> None:
    await User.objects.filter(pk=viewer.pk).aupdate(is_active=False)

    assert (await requests.get(f"/permissions/{viewer.pk}/accounts.view_user")).json() is False
    assert (await requests.get("/permissions/404/accounts.view_user")).json() is False
