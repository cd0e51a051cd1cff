"""The migrated database is what the generated modules say, on both databases."""

import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from fastapi_app.core import tables as product
from tests.schema.everyfield import tables as everyfield
from tests.schema.fixtures import Api

TABLES = [*product.Base.metadata.sorted_tables, *everyfield.Base.metadata.sorted_tables]
NAMED = {
    constant.name
    for constant in (*vars(product).values(), *vars(everyfield).values())
    if isinstance(constant, sa.Constraint | sa.Index)
} | {index.name for table in TABLES for index in table.indexes}
"""Each constraint that the modules have a constant for, and each index."""
NAMED_BY_DJANGO = re.compile("ix_").match
"""Whether the module leaves the name of an index to Django, which makes one of a hash; SQLAlchemy then has its own."""


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_table__reflected_from_the_migrated_database__is_the_generated_one(
    database: str, api: Api, table: sa.Table
) -> None:
    async def reflect() -> dict[str, Any]:
        async with api.engine.connect() as connection:
            return await connection.run_sync(lambda sync: reflected(sa.inspect(sync), table.name))

    assert api.run(reflect()) == generated(table, api.engine.dialect)


def generated(table: sa.Table, dialect: sa.Dialect) -> dict[str, Any]:
    """What the module says, in the form of ``reflected``."""
    return {
        "columns": {
            column.name: (
                comparable(column.type.compile(dialect), dialect),
                column.nullable,
                # SQLite has no identities; Django's AUTOINCREMENT stands in for them.
                column.server_default is not None and (column.identity is None or dialect.name != "sqlite"),
            )
            for column in table.columns
        },
        "primary key": [column.name for column in table.primary_key],
        "foreign keys": {
            (key.parent.name, key.column.table.name, key.column.name, key.ondelete) for key in table.foreign_keys
        },
        "unique": {
            *(columns_of(one) for one in table.constraints if isinstance(one, sa.UniqueConstraint)),
            *(columns_of(one) for one in table.indexes if one.unique and len(one.columns)),
        },
        "named": {
            *(one.name for one in table.constraints if one.name is not None),
            *(one.name for one in table.indexes if not NAMED_BY_DJANGO(str(one.name))),
        },
    }


def reflected(inspector: sa.Inspector, name: str) -> dict[str, Any]:
    """What the database says."""
    dialect = inspector.dialect
    primary_key = inspector.get_pk_constraint(name)["constrained_columns"]
    with warnings.catch_warnings(action="ignore"):  # SQLAlchemy cannot reflect SQLite's indexes on expressions.
        indexes = inspector.get_indexes(name, include_auto_indexes=True)
    indexed: list[Sequence[str | None]] = [index["column_names"] for index in indexes if index["unique"]]
    uniques: list[Sequence[str | None]] = [unique["column_names"] for unique in inspector.get_unique_constraints(name)]
    return {
        "columns": {
            column["name"]: (
                comparable(column["type"].compile(dialect), dialect),
                column["nullable"],
                bool(column["default"] or column.get("computed") or column.get("identity")),
            )
            for column in inspector.get_columns(name)
        },
        "primary key": primary_key,
        "foreign keys": foreign_keys(inspector, name),
        "unique": {frozenset(columns) for columns in [*indexed, *uniques] if None not in columns}
        - {frozenset(primary_key)},  # Which SQLite keeps by an index of that kind.
        "named": {one for one in names(inspector, name) if one in NAMED},
    }


def foreign_keys(inspector: sa.Inspector, name: str) -> set[tuple[Any, ...]]:
    if inspector.dialect.name == "sqlite":  # SQLAlchemy does not see the rule of a key that stands in its column.
        query = sa.text(
            """SELECT "from", "table", "to", nullif(on_delete, 'NO ACTION') FROM pragma_foreign_key_list(:name)"""
        )
        return {tuple(row) for row in rows(inspector, query, name)}
    return {
        (
            key["constrained_columns"][0],
            key["referred_table"],
            key["referred_columns"][0],
            key["options"].get("ondelete"),
        )
        for key in inspector.get_foreign_keys(name)
    }


def names(inspector: sa.Inspector, name: str) -> Iterator[Any]:
    """The names of a table's constraints and indexes, and on SQLite every other name in its SQL."""
    if inspector.dialect.name == "sqlite":
        for (statement,) in rows(inspector, sa.text("SELECT sql FROM sqlite_master WHERE tbl_name = :name"), name):
            yield from re.findall('"(.*?)"', statement or "")
    else:
        yield from (one["name"] for one in inspector.get_check_constraints(name))
        yield from (one["name"] for one in inspector.get_unique_constraints(name))
        yield from (one["name"] for one in inspector.get_indexes(name))


def rows(inspector: sa.Inspector, query: sa.TextClause, name: str) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    assert isinstance(inspector.bind, sa.Connection)
    return inspector.bind.execute(query, {"name": name}).all()


def columns_of(unique: sa.UniqueConstraint | sa.Index) -> frozenset[Any]:
    return frozenset(column.name for column in unique.columns)


def comparable(declared: str, dialect: sa.Dialect) -> str:
    """A column's type as far as the database tells types apart: SQLite by their affinity (datatype3.html, 3.1)."""
    if dialect.name != "sqlite":
        return declared
    if "INT" in declared:
        return "integer"
    if re.search("CHAR|CLOB|TEXT|JSON", declared):  # Django declares JSON as text, SQLAlchemy by its name.
        length = re.search(r"\(\d+\)", declared)
        return f"text{length[0] if length else ''}"
    if not declared or "BLOB" in declared:
        return "blob"
    return "real" if re.search("REAL|FLOA|DOUB", declared) else "numeric"
