"""Orders that are the same on both databases: what a page is sorted and continued by.

Each is the counterpart of an expression in ``project/ordering.py``, which a model's index is made of.
"""

import datetime
from typing import Any

from sqlalchemy import Dialect, String, types
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from fastapi_app.core.types import UtcDateTime

LAST_CHARACTER = "\U0010ffff"
"""No text has a character above it: ``text >= prefix and text < prefix + LAST_CHARACTER`` is what begins with it."""


class bytewise(FunctionElement[str]):  # noqa: N801  An SQL function, named as SQLAlchemy names those.
    """Text in the order of its UTF-8 bytes, whatever the database's locale: prefixes are ranges then."""

    type = String()
    inherit_cache = True


@compiles(bytewise)
def _bytewise(element: bytewise, compiler: Any, **options: Any) -> str:
    return f'{compiler.process(element.clauses, **options)} COLLATE "C"'


@compiles(bytewise, "sqlite")
def _bytewise_on_sqlite(element: bytewise, compiler: Any, **options: Any) -> str:
    return f"{compiler.process(element.clauses, **options)} COLLATE BINARY"


class ExactMoment(types.TypeDecorator[datetime.datetime]):
    """What ``moment`` is compared with: on SQLite text with six digits after the second."""

    impl = UtcDateTime()
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Any:
        if dialect.name != "sqlite":
            return super().bind_processor(dialect)
        return lambda value: value.astimezone(datetime.UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


class moment(FunctionElement[datetime.datetime]):  # noqa: N801  As above.
    """A moment in time. SQLite has text, which its writers give three, six or no digits after the second."""

    type = ExactMoment()
    inherit_cache = True


@compiles(moment)
def _moment(element: moment, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses, **options))


@compiles(moment, "sqlite")
def _moment_on_sqlite(element: moment, compiler: Any, **options: Any) -> str:
    column = compiler.process(element.clauses, **options)
    return f"(substr({column} || '.000000', 1, 20) || substr(substr({column}, 21) || '000000', 1, 6))"
