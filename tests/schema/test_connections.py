"""SQLAlchemy's connections are set up as Django's are."""

import pytest
from django.db import connection
from sqlalchemy import text

from project.config import config
from tests.schema.fixtures import Api


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("pragma", "value"),
    [("foreign_keys", 1), ("journal_mode", "wal"), ("busy_timeout", int(config.database_wait_s * 1000))],
)
def test_connection__to_sqlite__has_djangos_setting(database: str, api: Api, pragma: str, value: object) -> None:
    statement = f"PRAGMA {pragma}"

    with connection.cursor() as cursor:
        cursor.execute(statement)
        assert cursor.fetchone() == (value,)
    assert api.execute(text(statement)) == [(value,)]


@pytest.mark.postgresql
def test_connection__to_postgresql__is_in_utc_as_djangos(database: str, api: Api) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW timezone")
        assert cursor.fetchone() == ("UTC",)
    assert api.execute(text("SHOW timezone")) == [("UTC",)]
