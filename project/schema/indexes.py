"""The plain indexes of a table, so that the API can see at import whether one serves what a list offers.

Keys and conditions are written as SQLite has them, one expression for each key.
"""

import re
from collections.abc import Iterator

from django.db import models
from django.db.utils import NotSupportedError

from project.schema import sqlite
from project.schema.fields import AnyField
from project.schema.source import Call, quoted


def indexes(model: type[models.Model]) -> list[Call]:
    """The indexes that a model declares, and those that Django makes for a field of it."""
    fields: list[AnyField] = [field for field in model._meta.local_fields if field.column]
    return [
        *(call for declared in model._meta.indexes for call in _declared(model, declared)),
        *(Call("sa.Index", ["None", quoted(str(field.column))]) for field in fields if _has_index(field)),
    ]


def _has_index(field: AnyField) -> bool:
    return bool(getattr(field, "db_index", False) and not field.unique)  # A generated field has none of its own.


def _declared(model: type[models.Model], declared: models.Index) -> Iterator[Call]:
    try:
        columns, condition = sqlite.index(model, declared)
    except NotSupportedError:
        return  # It asks for a feature that only PostgreSQL has.
    where = [f"sqlite_where=sa.text({quoted(condition)})"] if condition else []
    yield Call("sa.Index", [quoted(declared.name), *map(_key, _keys(columns)), *where])


def _key(expression: str) -> str | Call:
    """A column by its name, anything else as SQL."""
    column = _is_column(expression)
    return quoted(column[1]) if column else Call("sa.text", [quoted(expression)])


_is_column = re.compile(r'"(\w+)"').fullmatch


def _keys(columns: str) -> Iterator[str]:
    """The expressions of a list of keys, which commas outside of parentheses and quotes divide."""
    depth, quote, begin = 0, "", 0
    for place, character in enumerate(columns):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "," and depth == 0:
            yield columns[begin:place].strip()
            begin = place + 1
    yield columns[begin:].strip()
