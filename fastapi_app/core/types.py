"""Column types that store and read exactly what Django's do, on SQLite and on PostgreSQL.

SQLite has no types but a few; Django keeps the others as text or numbers of its own choosing, and SQLAlchemy chooses
differently. Each type below exists because the plain one of SQLAlchemy loses or changes a value somewhere.
"""

import datetime
import ipaddress
from decimal import Context, Decimal
from typing import Any

from sqlalchemy import CHAR, JSON, BigInteger, Date, DateTime, Dialect, Interval, Numeric, Time, types
from sqlalchemy.dialects.postgresql import INET, JSONB

UTC = datetime.UTC
MICROSECOND = datetime.timedelta(microseconds=1)
SQLITE_DIGITS = 15
"""Decimal digits that SQLite keeps of a number that is not an integer."""

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""JSON in which ``None`` is NULL, as in Django; SQLAlchemy's own would store the JSON value ``null``."""


def now() -> datetime.datetime:
    """This moment, in UTC."""
    return datetime.datetime.now(UTC)


def time_of_day() -> datetime.time:
    """The time that it is now, in the process's time zone, as Django's ``auto_now`` of a ``TimeField``."""
    return datetime.datetime.now().time()


class _AsItComes(types.UserDefinedType[Any]):
    """A SQLite column of a declared type: what is bound is stored, and what is stored is read."""

    cache_ok = True

    def __init__(self, declared: str) -> None:
        self.declared = declared

    def get_col_spec(self, **_options: object) -> str:
        return self.declared


class UtcDateTime(types.TypeDecorator[datetime.datetime]):
    """An aware moment, whatever its zone, stored in UTC and read in UTC.

    SQLAlchemy's ``DateTime`` on SQLite drops the zone without converting, and reads naive values back. asyncpg stores
    the last and the first moment that Python knows as infinity, which Django cannot read: they are refused.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        return dialect.type_descriptor(_AsItComes("datetime") if _is_sqlite(dialect) else DateTime(timezone=True))

    def process_bind_param(self, value: datetime.datetime | None, dialect: Dialect) -> object:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime: give it a time zone")
        moment = value.astimezone(UTC).replace(tzinfo=None)
        if _is_sqlite(dialect):
            return str(moment)
        if moment in {datetime.datetime.min, datetime.datetime.max}:
            raise ValueError(
                f"{value} would be stored as infinity, which Django cannot read: use null, or a nearer moment"
            )
        return moment.replace(tzinfo=UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime.datetime | None:
        if value is None:
            return None
        return datetime.datetime.fromisoformat(value).replace(tzinfo=UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """None on PostgreSQL, where asyncpg reads every moment in UTC already."""
        return super().result_processor(dialect, coltype) if _is_sqlite(dialect) else None


class FiniteDate(types.TypeDecorator[datetime.date]):
    """A date. asyncpg stores the last and the first that Python knows as infinity, which Django cannot read.

    They are refused on PostgreSQL, instead of rows that break Django's side.
    """

    impl = Date()
    cache_ok = True

    def process_bind_param(self, value: datetime.date | None, dialect: Dialect) -> datetime.date | None:
        if value in {datetime.date.min, datetime.date.max} and not _is_sqlite(dialect):
            raise ValueError(
                f"{value} would be stored as infinity, which Django cannot read: use null, or a nearer date"
            )
        return value


class TimeOfDay(types.TypeDecorator[datetime.time]):
    """A time without a zone. SQLAlchemy's ``Time`` writes ``.000000`` on SQLite where Django writes nothing."""

    impl = Time()
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        return dialect.type_descriptor(_AsItComes("time") if _is_sqlite(dialect) else Time())

    def process_bind_param(self, value: datetime.time | None, dialect: Dialect) -> object:
        if value is not None and value.tzinfo is not None:
            raise ValueError("a time with a zone: a time of day has none")
        return str(value) if value is not None and _is_sqlite(dialect) else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime.time | None:
        return datetime.time.fromisoformat(value) if value is not None and _is_sqlite(dialect) else value


class Duration(types.TypeDecorator[datetime.timedelta]):
    """A length of time. Django keeps microseconds on SQLite; SQLAlchemy's ``Interval`` a date, which it cannot read."""

    impl = Interval()
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        return dialect.type_descriptor(BigInteger() if _is_sqlite(dialect) else Interval())

    def process_bind_param(self, value: datetime.timedelta | None, dialect: Dialect) -> object:
        return value // MICROSECOND if value is not None and _is_sqlite(dialect) else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime.timedelta | None:
        length: datetime.timedelta | None = value * MICROSECOND if isinstance(value, int) else value
        return length


class ExactDecimal(types.TypeDecorator[Decimal]):
    """A decimal number, to ``places`` places where given.

    On SQLite SQLAlchemy's ``Numeric`` goes through a float in both directions; Django gives SQLite the digits, and
    reads them back to as many places as the field has. SQLite itself keeps 15 of them, for either side. On PostgreSQL
    asyncpg reads 100 as ``1E+2``, which is equal, but not what Django would print.
    """

    impl = Numeric()
    cache_ok = True

    def __init__(self, digits: int | None = None, places: int | None = None) -> None:
        super().__init__(digits, places)
        self.digits = digits
        self.places = places

    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        return dialect.type_descriptor(
            _AsItComes("decimal") if _is_sqlite(dialect) else Numeric(self.digits, self.places)
        )

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> object:
        return str(value) if value is not None and _is_sqlite(dialect) else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        if value is None:
            return None
        if not _is_sqlite(dialect):
            return Decimal(f"{value:f}")
        number = Context(SQLITE_DIGITS).create_decimal(value) if isinstance(value, float) else Decimal(value)
        return (
            number
            if self.places is None
            else number.quantize(Decimal(1).scaleb(-self.places), context=Context(self.digits))
        )


class IpAddress(types.TypeDecorator[str]):
    """An IPv4 or IPv6 address as text, in Django's spelling. asyncpg reads objects of ``ipaddress`` instead.

    ``unpack_ipv4`` stores ``::ffff:192.0.2.1`` as ``192.0.2.1``, as the field's option does.
    """

    impl = CHAR(39)
    cache_ok = True

    def __init__(self, *, unpack_ipv4: bool = False) -> None:
        super().__init__()
        self.unpack_ipv4 = unpack_ipv4

    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        return dialect.type_descriptor(CHAR(39) if _is_sqlite(dialect) else INET())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else _spelled(value, unpack_ipv4=self.unpack_ipv4)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else _spelled(value)


def _spelled(value: str | ipaddress.IPv4Address | ipaddress.IPv6Address, *, unpack_ipv4: bool = False) -> str:
    address = ipaddress.ip_address(value)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        # Python 3.12 would spell the last part in hexadecimal.
        return str(address.ipv4_mapped) if unpack_ipv4 else f"::ffff:{address.ipv4_mapped}"
    return str(address)


def _is_sqlite(dialect: Dialect) -> bool:
    return dialect.name == "sqlite"
