"""Lists of users: filters, orders, and cursors that survive what happens between two pages."""

import datetime
import re
from collections.abc import Mapping
from itertools import product
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from fastapi_app.core.pagination import Cursors
from project.accounts.models import User
from tests.fixtures import assert_problem

pytestmark = pytest.mark.asyncio

NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)
MILLISECOND = datetime.timedelta(milliseconds=1)


@pytest_asyncio.fixture
async def crowd(alice: User) -> list[User]:
    """Alice, who is made now, and seven others, several of whom were made in one moment."""
    others = [
        User(email="zoe@example.com", display_name="Zoe", created_at=NOON),
        User(email="adam@example.com", display_name="Ada", created_at=NOON, is_active=False),
        User(email="ada@example.com", display_name="Adam", created_at=NOON),
        User(email="a-b@example.com", display_name="ada lovelace", created_at=NOON + MILLISECOND),
        User(email="a.b@example.com", display_name="Bob", created_at=NOON + MILLISECOND * 1.5, is_active=False),
        User(email="bob@example.com", display_name="ada", created_at=NOON + MILLISECOND),
        User(email="%_@example.com", display_name="%_", created_at=NOON - MILLISECOND),
    ]
    for one in others:
        await one.asave()
    return [alice, *others]


async def pages(client: httpx2.AsyncClient, **parameters: Any) -> list[list[dict[str, Any]]]:
    """All pages of a list, by the links that lead from each to the next."""
    found, address = [], str(httpx2.URL("/api/v1/users", params=parameters))
    while True:
        answer = await client.get(address)
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["items"])
        links = {rel: link for link, rel in re.findall(r'<([^>]*)>; rel="(\w+)"', answer.headers["link"])}
        assert (answer.json()["next_cursor"] is None) == ("next" not in links)
        assert (await client.get(links["first"])).json()["items"] == found[0]
        if "next" not in links:
            return found
        address = links["next"]


async def emails(client: httpx2.AsyncClient, **parameters: Any) -> list[str]:
    return [user["email"].removesuffix("@example.com") for page in await pages(client, **parameters) for user in page]


@pytest.mark.parametrize("sort", ["id", "-id", "created_at", "-created_at", "email", "-email"])
async def test_list__each_order__shows_each_user_once(sort: str, reader: httpx2.AsyncClient, crowd: list[User]) -> None:
    def place(user: User) -> Any:
        by = getattr(user, sort.lstrip("-"))
        return (by.encode() if isinstance(by, str) else by, user.pk)

    everybody = sorted([user async for user in User.objects.all()], key=place, reverse=sort.startswith("-"))
    assert len(everybody) > len(crowd), "the administrator is there, too"
    for limit, is_active in product((1, 3, 200), (None, True, False)):
        expected = [user.pk for user in everybody if is_active in {None, user.is_active}]

        found = await pages(reader, sort=sort, limit=limit, **({} if is_active is None else {"is_active": is_active}))

        assert [user["id"] for page in found for user in page] == expected
        assert all(len(page) == limit for page in found[:-1])


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"email": "ADA@Example.com"}, ["ada"]),
        ({"email": "ada@example.com", "is_active": "true"}, ["ada"]),
        ({"email": "ada@example.com", "is_active": "false"}, []),
        ({"email": "ada@example.com", "created_before": NOON.isoformat()}, []),
        ({"email": "ad@example.com"}, []),
        (
            {"created_from": NOON.isoformat(), "created_before": (NOON + MILLISECOND).isoformat()},
            ["zoe", "adam", "ada"],
        ),
        (
            {"created_from": "2026-01-02T14:00:00+02:00", "created_before": "2026-01-02T12:00:00.0015Z"},
            ["zoe", "adam", "ada", "a-b", "bob"],
        ),
        ({"created_before": NOON.isoformat()}, ["%_"]),
        (
            {"created_from": NOON.isoformat(), "created_before": "2026-01-03T00:00:00Z", "sort": "-created_at"},
            ["a.b", "bob", "a-b", "ada", "adam", "zoe"],
        ),
        ({"created_before": "2026-01-03T00:00:00Z", "is_active": "false"}, ["adam", "a.b"]),
        ({"search": "ada"}, ["bob", "a-b", "ada", "adam"]),
        ({"search": "ADA"}, ["bob", "a-b", "ada", "adam"]),
        ({"search": "ada", "is_active": "true"}, ["bob", "a-b", "ada"]),
        ({"search": "ada", "is_active": "false"}, ["adam"]),
        ({"search": "ada l"}, ["a-b"]),
        ({"search": "%"}, ["%_"]),
        ({"search": "nobody"}, []),
    ],
)
async def test_list__filters__find_these_whatever_the_size_of_a_page(
    parameters: Mapping[str, str], found: list[str], reader: httpx2.AsyncClient, crowd: list[User]
) -> None:
    for limit in (1, 2, 200):
        assert await emails(reader, limit=limit, **parameters) == found


@pytest.mark.parametrize("sort", ["id", "-created_at", "email"])
async def test_cursor__inserts_and_deletes_between_pages__loses_and_repeats_nobody(
    sort: str, reader: httpx2.AsyncClient, crowd: list[User]
) -> None:
    before = await emails(reader, sort=sort)
    first = (await reader.get("/api/v1/users", params={"sort": sort, "limit": 3})).json()
    shown = [user["email"].removesuffix("@example.com") for user in first["items"]]
    assert shown == before[:3]

    await User.objects.filter(email=f"{shown[-1]}@example.com").adelete()  # The one whom the cursor leads on from.
    await User.objects.filter(email=f"{before[4]}@example.com").adelete()
    await User(email=f"{shown[0]}.x@example.com", created_at=NOON - 3 * MILLISECOND).asave()
    rest = await emails(reader, sort=sort, limit=200)
    following = (
        await reader.get("/api/v1/users", params={"sort": sort, "limit": 200, "cursor": first["next_cursor"]})
    ).json()

    seen = [user["email"].removesuffix("@example.com") for user in following["items"]]
    assert [email for email in seen if email in before] == [before[3], *before[5:]]
    assert set(seen) <= set(rest)


@pytest.mark.parametrize(
    "other",
    [{"sort": "-id"}, {"sort": "email"}, {"is_active": "true"}, {"search": "a"}, {"email": "ada@example.com"}],
)
async def test_cursor__of_another_list__is_refused(
    other: dict[str, str], reader: httpx2.AsyncClient, crowd: list[User]
) -> None:
    cursor = (await reader.get("/api/v1/users", params={"limit": 2})).json()["next_cursor"]

    assert (await reader.get("/api/v1/users", params={"limit": 3, "cursor": cursor})).status_code == 200
    problem = assert_problem(await reader.get("/api/v1/users", params={**other, "cursor": cursor}), 422)
    assert [error["parameter"] for error in problem["errors"]] == ["cursor"]


async def test_cursor__changed_by_one_character_or_signed_by_another__is_refused(
    reader: httpx2.AsyncClient, crowd: list[User], monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor = (await reader.get("/api/v1/users", params={"limit": 2})).json()["next_cursor"]
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(Cursors, "KEYS", (b"another secret",))
        forged = Cursors.sign([1], "UserQuery{}")
    changed = [f"{cursor[:place]}{'A' if cursor[place] != 'A' else 'B'}{cursor[place + 1 :]}" for place in (0, 20, -4)]

    for wrong in (forged, cursor[:-4], *changed):
        assert_problem(await reader.get("/api/v1/users", params={"cursor": wrong}), 422)


async def test_cursor__signed_by_the_former_secret__leads_on(
    reader: httpx2.AsyncClient, crowd: list[User], monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor = (await reader.get("/api/v1/users", params={"limit": 2})).json()["next_cursor"]
    monkeypatch.setattr(Cursors, "KEYS", (b"the next secret", *Cursors.KEYS))

    assert (await reader.get("/api/v1/users", params={"cursor": cursor})).status_code == 200


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"e-mail": "x"}, ["e-mail"]),
        ({"is_staff": "true", "offset": "3"}, ["is_staff", "offset"]),
        ({"is_active": "perhaps"}, ["is_active"]),
        ({"is_active": ""}, ["is_active"]),
        ({"email": ""}, ["email"]),
        ({"email": "nul\x00"}, ["email"]),
        ({"search": "x" * 255}, ["search"]),
        ({"search": "two\nlines"}, ["search"]),
        ({"sort": "display_name"}, ["sort"]),
        ({"sort": "--id"}, ["sort"]),
        ({"created_from": "yesterday"}, ["created_from"]),
        ({"created_from": "1767312000.5"}, ["created_from"]),
        ({"created_from": "2026-01-02T00:00:00"}, ["created_from"]),
        ({"created_before": "0001-01-01T00:00:00+14:00"}, ["created_before"]),
        ({"created_before": "9999-12-31T23:59:59Z"}, ["created_before"]),
        ({"created_from": "2026-01-02T00:00:00Z", "sort": "email"}, ["sort"]),
        ({"search": "a", "sort": "email"}, ["sort"]),
        ({"search": "a", "email": "a@example.com"}, ["email"]),
        ({"search": "a", "created_from": "2026-01-02T00:00:00Z"}, ["created_from"]),
        ({"cursor": "x" * 2049}, ["cursor"]),
    ],
)
async def test_list__what_no_index_serves_or_nobody_declared__is_named(
    parameters: dict[str, str], named: list[str], reader: httpx2.AsyncClient
) -> None:
    problem = assert_problem(await reader.get("/api/v1/users", params=parameters), 422)

    assert [error["parameter"] for error in problem["errors"]] == named
