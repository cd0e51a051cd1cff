"""Both layers write one SQLite file at the same time: each waits for the other, and nothing is lost."""

import asyncio

import pytest
from asgiref.sync import ThreadSensitiveContext
from django.db import connections
from sqlalchemy import insert

from fastapi_app.core.bridge import call_django
from fastapi_app.core.database import Database, open_database
from project.config import config
from tests.schema.everyfield import tables
from tests.schema.everyfield.models import Author

TASKS = 8
WRITES = 250
"""Of each task, each in a transaction of its own: 2,000 a side."""

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.sqlite,
]


async def test_writers__eight_on_each_side__lose_nothing_and_never_meet_a_locked_database(migrated: None) -> None:
    async with open_database(config) as database, asyncio.TaskGroup() as writers:
        for task in range(TASKS):
            writers.create_task(write_with_sqlalchemy(database, task))
            writers.create_task(write_with_django(task))

    names = await asyncio.to_thread(taken_away)
    assert len(names) == 2 * TASKS * WRITES
    assert set(names) == {
        f"{side} {task} {n}" for side in ("api", "django") for task in range(TASKS) for n in range(WRITES)
    }


async def write_with_sqlalchemy(database: Database, task: int) -> None:
    for n in range(WRITES):
        async with database.sessions() as session:
            await session.execute(insert(tables.Author), {"name": f"api {task} {n}"})
            await session.commit()


async def write_with_django(task: int) -> None:
    async with ThreadSensitiveContext():  # A thread and a connection of its own, as a request has.
        for n in range(WRITES):
            await call_django(Author.objects.create, name=f"django {task} {n}")
        await call_django(connections.close_all)


def taken_away() -> list[str]:
    """Every name that was written; the table is empty again."""
    try:
        names = list(Author.objects.values_list("name", flat=True))
        Author.objects.all().delete()
    finally:
        connections.close_all()
    return names
