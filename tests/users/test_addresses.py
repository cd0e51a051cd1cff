# ruff: noqa: RUF001  Characters that look alike are what this is about.
"""International addresses through the API: stored in one spelling, shown decoded, found by each."""

import csv
import io
import json
from urllib.parse import quote

import httpx2
import pytest

from project.accounts.models import User

pytestmark = pytest.mark.asyncio

SHOWN, STORED = "hong@한국.example", "hong@xn--3e0b707e.example"
SPELLINGS = [SHOWN, STORED, "Hong@XN--3E0B707E.Example", "ｈong＠한국。example"]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_user__created_by_any_spelling__is_stored_once_and_shown_decoded(
    spelling: str, writer: httpx2.AsyncClient
) -> None:
    created = await writer.post("/api/v1/users", json={"email": spelling})
    assert created.status_code == 201, created.text
    assert created.json()["email"] == SHOWN
    address = created.headers["location"]
    assert await User.objects.filter(pk=created.json()["id"]).values_list("email", flat=True).aget() == STORED

    for other in SPELLINGS:
        assert (await writer.post("/api/v1/users", json={"email": other})).status_code == 409
        found = (await writer.get("/api/v1/users", params={"email": other})).json()["items"]
        assert [user["email"] for user in found] == [SHOWN]
        by_search = (await writer.get("/api/v1/users", params={"search": other})).json()["items"]
        assert [user["email"] for user in by_search] == [SHOWN]
        changed = await writer.patch(address, json={"email": other})
        assert (changed.status_code, changed.json()["email"]) == (200, SHOWN)
    assert (await writer.get(address)).json()["email"] == SHOWN


async def test_search__beginning_with_a_whole_label__finds_it(writer: httpx2.AsyncClient) -> None:
    for email in (SHOWN, "hong@example.com", "홍길동@example.com"):
        await writer.post("/api/v1/users", json={"email": email, "display_name": "Ａda @ home"})

    async def found(search: str) -> list[str]:
        return [user["email"] for user in (await writer.get(f"/api/v1/users?search={quote(search)}")).json()["items"]]

    assert await found("hong@한국") == [SHOWN]
    assert await found("HONG@") == ["hong@example.com", SHOWN]
    assert await found("홍길") == ["홍길동@example.com"]
    assert len(await found("Ａda")) == 3, "a name is looked for as it is typed"


@pytest.mark.attack
@pytest.mark.parametrize(
    "email",
    [
        "Name <a@b.example>",
        "<a@b.example>",
        "аlice@example.com",
        "асе@example.com",
        "ada@раураl.example",
        "ali\u200bce@example.com",
        "ali\u034fce@example.com",
        "a@localhost",
        "alice@example.com.",
    ],
)
async def test_user__no_address_or_a_deceiving_one__is_refused_on_each_way_in(
    email: str, writer: httpx2.AsyncClient, alice: User
) -> None:
    before = await User.objects.acount()

    created = await writer.post("/api/v1/users", json={"email": email})
    changed = await writer.patch(f"/api/v1/users/{alice.pk}", json={"email": email})
    imported = await writer.post(
        "/api/v1/users/import",
        content=json.dumps({"email": email}),
        headers={"content-type": "application/jsonl"},
    )

    for answer in (created, changed, imported):
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == ["#/email"]
    assert (await writer.get("/api/v1/users", params={"email": email})).status_code in {200, 422}
    assert await User.objects.acount() == before


async def test_import_and_export__international_addresses__come_back_as_they_were_shown(
    writer: httpx2.AsyncClient,
) -> None:
    rows = [{"email": SHOWN}, {"email": "홍길동@example.com"}, {"email": "ada@corp.local"}]
    file = "\n".join(json.dumps(row) for row in rows)

    imported = await writer.post("/api/v1/users/import", content=file, headers={"content-type": "application/jsonl"})
    assert imported.json() == {"created": 3}
    exported = await writer.get("/api/v1/users/export", headers={"accept": "text/csv"})

    found = [row["email"] for row in csv.DictReader(io.StringIO(exported.text))]
    assert found[-3:] == [row["email"] for row in rows]
    twice = await writer.post(
        "/api/v1/users/import",
        content="\n".join(json.dumps({"email": email}) for email in ("new@한국.example", "new@xn--3e0b707e.example")),
        headers={"content-type": "application/jsonl"},
    )
    assert [error["line"] for error in twice.json()["errors"]] == [2]
    taken = await writer.post(
        "/api/v1/users/import", content=json.dumps({"email": STORED}), headers={"content-type": "application/jsonl"}
    )
    assert "exists already" in taken.json()["errors"][0]["detail"]
