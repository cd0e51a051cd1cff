"""How PostgreSQL runs the pages of 100,000 users: by the index of the order, however deep, and never by sorting."""

import datetime
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from fastapi_app.core.statements import Statement
from fastapi_app.users import repository

pytestmark = [pytest.mark.postgresql, pytest.mark.asyncio]

USERS = 100_000
BEGIN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
END = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
DEEP = 90_000
"""Users before the deep page; the 10,000th page of nine."""
BUFFERS = 150
"""8 KB blocks for a page of 50 at most: the way down an index, and a block for each row if it must be."""


@pytest_asyncio.fixture
async def crowded(database: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to a database of many users, every tenth of them inactive."""
    connection = await asyncpg.connect(database)
    await connection.execute(
        """INSERT INTO accounts_user (email, display_name, is_active, created_at)
           SELECT 'user' || n || '@example.com', 'Name ' || n, n % 10 <> 0, $1::timestamptz + n * interval '1 second'
           FROM generate_series(1, $2) AS n""".replace("$1", f"'{BEGIN.isoformat()}'").replace("$2", str(USERS))
    )
    await connection.execute("ANALYZE accounts_user")
    yield connection
    await connection.execute("TRUNCATE accounts_user CASCADE")
    await connection.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


async def explain(
    connection: "asyncpg.Connection[asyncpg.Record]", statement: Statement, values: dict[str, Any]
) -> dict[str, Any]:
    """The plan of a prepared statement that knows no values, which is the worst one, and what it read."""
    arguments = statement.arguments(values)
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    answer = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.sql}", *arguments)
    plan: dict[str, Any] = json.loads(answer)[0]["Plan"]
    return plan


async def place(
    connection: "asyncpg.Connection[asyncpg.Record]", by: str, number: int, *, descending: bool
) -> dict[str, Any]:
    """The place after so many users of an order."""
    key = {"id": "id", "email": 'email COLLATE "C"', "created_at": "created_at"}[by]
    direction = "DESC" if descending else "ASC"
    user = await connection.fetchrow(
        f"SELECT id, email, created_at FROM accounts_user ORDER BY {key} {direction} OFFSET {number} LIMIT 1"
    )
    assert user is not None
    match by:
        case "id":
            return {"after_id": user["id"]}
        case "email":
            return {"after": user["email"]}
        case _:
            return {"after": user["created_at"], "after_id": user["id"], "until": BEGIN if descending else END}


async def test_page__in_every_order_with_every_filter__reads_its_index_only_and_as_much_when_deep(
    crowded: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    pages = repository._LISTING._pages.items()
    assert len(pages) == 18
    for (by, descending, (is_active,)), statement in pages:
        read = []
        for number in (10, DEEP):
            where = await place(crowded, by, number, descending=descending)
            plan = await explain(crowded, statement, {**where, "limit": 50})
            kinds = {node["Node Type"] for node in nodes(plan)}
            assert kinds == {"Limit", "Index Scan"}, (by, descending, is_active, kinds)
            assert plan["Actual Rows"] == 50
            read.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
        assert max(read) <= BUFFERS, (by, descending, is_active, read)


async def test_search__at_the_beginning_and_deep__reads_two_ranges_of_indexes(
    crowded: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    for is_active in (None, True):
        for after in ("name", "name 9", "user", "user9"):
            values = {"prefix": after.partition(" ")[0].rstrip("9"), "after": after, "after_id": 0, "limit": 50}
            plan = await explain(crowded, repository._LISTING._searches[is_active,], values)
            kinds = {node["Node Type"] for node in nodes(plan)}
            assert "Seq Scan" not in kinds
            assert "Index Scan" in kinds
            assert plan["Actual Rows"] == 50
            assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 2 * BUFFERS, (after, plan)


async def test_email__is_found_by_its_index(crowded: "asyncpg.Connection[asyncpg.Record]") -> None:
    values = {
        "value": "user7@example.com", "filter_is_active": None, "created_from": BEGIN, "created_before": END
    }  # fmt: skip
    plan = await explain(crowded, repository._LISTING._lookups["email"], values)

    assert plan["Node Type"] == "Index Scan"
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 20
