"""Whichever layer writes a value, both read the same one, and the database holds the same bytes."""

import datetime
import math
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import bindparam, insert, select

from fastapi_app.core.statements import Statement
from fastapi_app.core.types import UTC
from tests.schema.everyfield import tables
from tests.schema.everyfield.colours import Colour
from tests.schema.everyfield.models import Sample
from tests.schema.fixtures import Api

# What PostgreSQL cannot store, from either layer, is no part of the promise: NUL, and halves of characters.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
DAY = datetime.timedelta(days=1)
IPV4 = st.ip_addresses(v=4).map(str)
IPV6 = st.ip_addresses(v=6).map(str)
MAPPED = IPV4.map("::ffff:{}".format)
BYTE = st.integers(0, 255)


def text(length: int) -> st.SearchStrategy[str]:
    return st.text(CHARACTERS, max_size=length)


def signed(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def positive(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, 2 ** (bits - 1) - 1)


def decimals(digits: int, places: int) -> st.SearchStrategy[Any]:
    limit = 10 ** (digits - places) - 1
    return st.decimals(-limit, limit, places=places)


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "small": signed(16),
    "integer": signed(32),
    "big": signed(64),
    "positive_small": positive(16),
    "positive": positive(32),
    "positive_big": positive(64),
    # Without -0.0: Django writes a single one to PostgreSQL as the decimal literal -0.0, which is 0.0.
    "floating": st.floats(allow_nan=False).map(lambda value: value + 0.0),
    "price": decimals(12, 2),
    "rate": st.decimals(0, "0.9999999999", places=10),
    "whole": decimals(15, 0),
    "number": decimals(30, 6),
    "boolean": st.booleans(),
    "char": text(40),
    "unbounded": text(300),
    "text": text(300),
    "email": text(254),
    "slug": text(50),
    "url": text(200),
    "file": text(100),
    "image": text(100),
    "path": text(100),
    "binary": st.binary(max_size=64),
    "uuid": st.uuids(),
    "date": st.dates(datetime.date.min + DAY, datetime.date.max - DAY),
    "moment": st.datetimes(datetime.datetime.min + 2 * DAY, datetime.datetime.max - 2 * DAY, timezones=st.timezones()),
    "time": st.times(),
    # What fits into the microseconds of a bigint, which is how Django keeps it on SQLite.
    "duration": st.timedeltas(datetime.timedelta(microseconds=-(2**63)), datetime.timedelta(microseconds=2**63 - 1)),
    "json": st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text(20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text(10), inner, max_size=4),
        max_leaves=10,
    ),
    "address": IPV4 | IPV6 | MAPPED,
    "address_v4": IPV4,
    "address_v6": IPV6 | MAPPED,
    "address_unpacked": IPV4 | IPV6 | MAPPED,
    "colour": st.builds(Colour, BYTE, BYTE, BYTE),
}

NEVER_NULL = {"file", "image"}
"""Django writes an empty text where there is no file."""


WRITE = {
    name: Statement(insert(tables.Sample).values({name: bindparam("value")}).returning(tables.Sample.id))
    for name in VALUES
}
READ = {
    name: Statement(select(getattr(tables.Sample, name)).where(tables.Sample.id == bindparam("row_id")))
    for name in VALUES
}


def test_values__every_field_of_the_sample__has_some() -> None:
    assert set(VALUES) == {field.name for field in Sample._meta.fields} - {"id"}


@pytest.mark.parametrize("name", VALUES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_round_trip__either_layer_writes__both_read_and_store_the_same(
    database: str, api: Api, name: str, data: st.DataObject
) -> None:
    value = VALUES[name] if name in NEVER_NULL else st.none() | VALUES[name]
    values = data.draw(st.lists(value, min_size=1, max_size=12))

    by_django = write_with_django(name, values)
    by_sqlalchemy = write_with_sqlalchemy(api, name, values)
    by_statement = write_with_statement(api, name, values)

    # repr() tells 1 from True, 1.0 from 1.00 and 0.0 from -0.0, which == does not.
    expected = [repr(value) for value in read_with_django(name, by_django)]
    assert [repr(value) for value in read_with_django(name, by_sqlalchemy)] == expected
    assert [repr(value) for value in read_with_sqlalchemy(api, name, by_django)] == expected
    assert [repr(value) for value in read_with_sqlalchemy(api, name, by_sqlalchemy)] == expected
    assert [repr(value) for value in read_with_django(name, by_statement)] == expected
    assert [repr(value) for value in read_with_statement(api, name, by_django)] == expected
    assert [repr(value) for value in read_with_statement(api, name, by_statement)] == expected
    assert stored(name, by_sqlalchemy) == stored(name, by_statement) == stored(name, by_django)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("moment", datetime.datetime(2026, 11, 24, 9, 30, 0, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=9)))),
        ("date", datetime.date(2026, 11, 24)),
        ("duration", datetime.timedelta(days=-400, microseconds=1)),
        ("floating", -0.0),
        ("floating", math.inf),
        ("json", {"é": [None, {"deep": [1.5, True, "\U0001f600"]}]}),
        ("binary", b"\x00\xff"),
        ("char", "é\U0001f600'\"\\"),
    ],
)
def test_round_trip__known_value__comes_back_as_itself(database: str, api: Api, name: str, value: object) -> None:
    (row,) = write_with_sqlalchemy(api, name, [value])

    assert read_with_django(name, [row]) == [value]
    assert read_with_sqlalchemy(api, name, [row]) == [value]


def test_moment__read_by_either_layer__is_in_utc(database: str, api: Api) -> None:
    tokyo = datetime.timezone(datetime.timedelta(hours=9))
    rows = write_with_sqlalchemy(api, "moment", [datetime.datetime(2026, 1, 1, tzinfo=tokyo)])

    assert read_with_django("moment", rows)[0].tzinfo == UTC
    assert read_with_sqlalchemy(api, "moment", rows)[0].tzinfo == UTC


@pytest.mark.parametrize("value", [datetime.date.max, datetime.date.min])
def test_date__the_last_or_first__comes_back_on_sqlite_and_is_refused_where_it_would_be_infinity(
    database: str, api: Api, value: datetime.date
) -> None:
    if connection.vendor == "sqlite":
        assert read_with_django("date", write_with_sqlalchemy(api, "date", [value])) == [value]
    else:
        with pytest.raises(Exception, match="infinity, which Django cannot read"):
            write_with_sqlalchemy(api, "date", [value])
        assert read_with_sqlalchemy(api, "date", write_with_django("date", [value])) == [value]


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("moment", datetime.datetime(2026, 1, 1), "naive datetime"),
        ("time", datetime.time(9, tzinfo=UTC), "time with a zone"),
        ("address", "not an address", "does not appear to be"),
    ],
)
def test_write__value_that_the_type_cannot_hold__is_refused(
    database: str, api: Api, name: str, value: object, fault: str
) -> None:
    with pytest.raises(Exception, match=fault):
        write_with_sqlalchemy(api, name, [value])


def write_with_django(name: str, values: Sequence[object]) -> list[int]:
    return [sample.pk for sample in Sample.objects.bulk_create(Sample(**{name: value}) for value in values)]


def write_with_sqlalchemy(api: Api, name: str, values: Sequence[object]) -> list[int]:
    statement = insert(tables.Sample).returning(tables.Sample.id, sort_by_parameter_order=True)
    return [row.id for row in api.execute(statement, [{name: value} for value in values])]


def write_with_statement(api: Api, name: str, values: Sequence[object]) -> list[int]:
    """As a repository does: a constant, compiled once, run on asyncpg's own pool."""
    return [api.fetch(WRITE[name], value=value)[0]["id"] for value in values]


def read_with_statement(api: Api, name: str, ids: Sequence[int]) -> list[Any]:
    return [api.fetch(READ[name], row_id=row_id)[0][name] for row_id in ids]


def read_with_django(name: str, ids: Sequence[int]) -> list[Any]:
    values = Sample.objects.filter(pk__in=ids).order_by("pk").values_list(name, flat=True)
    return [bytes(value) if isinstance(value, memoryview) else value for value in values]


def read_with_sqlalchemy(api: Api, name: str, ids: Sequence[int]) -> list[Any]:
    statement = select(getattr(tables.Sample, name)).where(tables.Sample.id.in_(ids)).order_by(tables.Sample.id)
    return [value for (value,) in api.execute(statement)]


def stored(name: str, ids: Sequence[int]) -> list[tuple[Any, ...]]:
    """What the database itself says it holds: its type and its bytes."""
    column = connection.ops.quote_name(name)
    if connection.vendor == "sqlite":
        representation = f"typeof({column}), quote({column}), hex({column})"
    else:
        representation = f"pg_typeof({column})::text, {column}::text, pg_column_size({column})"
    with connection.cursor() as cursor:
        places = ", ".join(["%s"] * len(ids))
        cursor.execute(f"SELECT {representation} FROM everyfield_sample WHERE id IN ({places}) ORDER BY id", ids)
        return list(cursor.fetchall())
