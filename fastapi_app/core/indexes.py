"""Indexes that a statement is served by: looked for in the generated tables, so that a missing one shows at import."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, UniqueConstraint, literal_column
from sqlalchemy import Index as TableIndex
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.elements import ClauseElement

_SQLITE = sqlite.dialect()


class MissingIndex(Exception):
    """No index of a table serves what a list offers; the message says which one to add."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index that is needed: what it begins with, and the condition that it may have."""

    keys: tuple[ColumnElement[Any], ...]
    where: ColumnElement[bool] | None = None
    is_unique: bool = False

    def require(self, table: Table, *, whose: str) -> None:
        """Raise MissingIndex when ``table`` has no such index; ``whose`` names what needs it."""
        needed = ([_comparable(key) for key in self.keys], _comparable(self.where))
        for keys, where, is_unique in _indexes(table):
            serves = keys == needed[0] and is_unique if self.is_unique else keys[: len(self.keys)] == needed[0]
            if serves and where == needed[1]:
                return
        kind = "a unique constraint" if self.is_unique else "an index"
        raise MissingIndex(
            f"{whose} needs {kind} of {table.name} on ({', '.join(map(_text, self.keys))})"
            f"{'' if self.where is None else f' where {_text(self.where)}'}: add it to the model and run makemigrations"
        )


def _indexes(table: Table) -> Iterator[tuple[Sequence[str], str, bool]]:
    """The keys of each index of the table, its condition, and whether no two rows share its keys."""
    yield [_comparable(column) for column in table.primary_key], "", True
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield [_comparable(column) for column in constraint.columns], "", True
    for index in table.indexes:
        if isinstance(index, TableIndex):
            where = index.dialect_options["sqlite"]["where"]
            keys = [literal_column(key) if isinstance(key, str) else key for key in index.expressions]
            yield [_comparable(key) for key in keys], _comparable(where), bool(index.unique)


def _text(expression: ClauseElement) -> str:
    """An expression as SQLite has it, without its table."""
    written = str(expression.compile(dialect=_SQLITE, compile_kwargs={"literal_binds": True}))
    return re.sub(r"\b\w+\.(?=\w)", "", written)


def _comparable(expression: ClauseElement | None) -> str:
    """An expression in the spelling in which a statement's and Django's can be compared; empty where there is none."""
    return "" if expression is None else re.sub(r'["()\s]', "", _text(expression)).lower()
