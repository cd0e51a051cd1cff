"""What the schema's tests add to the world: the API's engine, used from a plain function beside Django's ORM."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from django.apps import apps
from sqlalchemy import Executable, Row
from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_app.core.database import Database, open_database
from fastapi_app.core.statements import Row as StatementRow
from fastapi_app.core.statements import Statement
from project.config import config


class Api:
    """SQLAlchemy as the product sets it up. Its loop runs only while it is asked something, so Django can be too."""

    def __init__(self, runner: asyncio.Runner, database: Database) -> None:
        self.database = database
        self.engine = database.engine
        self.run = runner.run

    def fetch(self, statement: Statement, **values: object) -> list[StatementRow]:
        """Run a compiled statement, as a repository does."""
        return self.run(self.database.fetch_all(statement, **values))

    def execute(
        self, statement: Executable, rows: Sequence[dict[str, Any]] | None = None
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        """Run a statement in a transaction of its own; the rows that it returns, if any."""

        async def work() -> Sequence[Row[*tuple[Any, ...]]]:
            async with self.engine.begin() as connection:
                result = await connection.execute(statement, rows)
                return result.all() if result.returns_rows else []

        return self.run(work())

    def session(self) -> AsyncSession:
        return AsyncSession(self.engine, expire_on_commit=False)


@pytest.fixture
def api(database: str) -> Iterator[Api]:
    with asyncio.Runner() as runner:
        opened = open_database(config)
        yield Api(runner, runner.run(opened.__aenter__()))
        runner.run(opened.__aexit__(None, None, None))
    for model in reversed(list(apps.get_app_config("everyfield").get_models())):
        model._default_manager.all().delete()
