"""Column types that store and read exactly what Django's do."""

import datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Text, types

UTC = datetime.UTC


class UtcDateTime(types.TypeDecorator[datetime.datetime]):
    """An aware moment, whatever its zone, stored in UTC: SQLite has no such type, and Django keeps its text there."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime.datetime | None, dialect: Dialect) -> object:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime: give it a time zone")
        moment = value.astimezone(UTC)
        return str(moment.replace(tzinfo=None)) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: object, dialect: Dialect) -> datetime.datetime | None:
        if isinstance(value, str):
            return datetime.datetime.fromisoformat(value).replace(tzinfo=UTC)
        return value.astimezone(UTC) if isinstance(value, datetime.datetime) else None


def now() -> datetime.datetime:
    """This moment, in UTC."""
    return datetime.datetime.now(UTC)
