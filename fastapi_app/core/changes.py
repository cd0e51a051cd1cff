"""Changes that most resources have: some columns of one row, from a version that was seen; many new rows at once."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    String,
    UniqueConstraint,
    bindparam,
    case,
    cast,
    func,
    literal,
    select,
    update,
)
from sqlalchemy import Index as TableIndex
from sqlalchemy.dialects import postgresql

from fastapi_app.core.database import INTEGRITY_ERRORS, Executor, violates
from fastapi_app.core.errors import AppError, PreconditionFailed
from fastapi_app.core.statements import Row, Statement


class Change:
    """An ``UPDATE`` of some columns of the row with an id: a column that is left out of the changes stays as it is.

    Null is a value of the columns that may be null; for the others it stands for "as it is", too.
    """

    def __init__(self, table: Any, columns: Sequence[Any], *, returning: Sequence[Any]) -> None:
        self._columns = tuple(columns)
        values = {column: _changed(column) for column in columns}
        change = update(table).where(table.id == bindparam("row_id")).values(values).returning(*returning)
        self._any = Statement(change)
        # ``versions`` is ",7,8,": a list that both databases can look into, in the UPDATE itself.
        listed = bindparam("versions", type_=String()).contains("," + cast(table.version, String()) + ",")
        self._of_versions = Statement(change.where(listed))
        self._exists = Statement(select(literal(1).label("one")).where(table.id == bindparam("row_id")))

    async def run(
        self, database: Executor, row_id: int, changes: Mapping[str, Any], *, versions: frozenset[int] | None = None
    ) -> Row | None:
        """The row after the change, None when there is none; ``versions`` are those that the change may begin from.

        Raises:
            PreconditionFailed: the row has another version.
            IntegrityError, asyncpg.IntegrityConstraintViolationError: a constraint refused the change.
        """
        values = {"row_id": row_id, **self._values(changes)}
        if versions is None:
            return await database.fetch_one(self._any, **values)
        row = await database.fetch_one(self._of_versions, **values, versions=f",{','.join(map(str, versions))},")
        if row is None and await database.fetch_one(self._exists, row_id=row_id) is not None:
            raise PreconditionFailed
        return row

    def _values(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        if unknown := changes.keys() - {column.key for column in self._columns}:
            raise TypeError(f"the change has no column {', '.join(sorted(unknown))}")
        values = dict[str, Any]()
        for column in self._columns:
            values[f"new_{column.key}"] = changes.get(column.key)
            if column.nullable:
                values[f"sets_{column.key}"] = column.key in changes
        return values


def _changed(column: Any) -> Any:
    new = bindparam(f"new_{column.key}", type_=column.type)
    if not column.nullable:
        return func.coalesce(new, column)
    return case((bindparam(f"sets_{column.key}", type_=Boolean()), new), else_=column)


class InsertMany:
    """An ``INSERT`` of rows, ``MANY`` in a statement, that leaves out those whose ``unique`` value another row has."""

    MANY = 100

    def __init__(self, table: Any, columns: Sequence[Any], *, unique: Any) -> None:
        self._table, self._columns, self._unique = table, [column.key for column in columns], unique
        self._statements = {count: self._some(count) for count in (1, self.MANY)}

    def _some(self, count: int) -> Statement:
        rows: list[dict[Any, Any]] = [{name: bindparam(f"{name}_{n}") for name in self._columns} for n in range(count)]
        new = postgresql.insert(self._table).values(rows)
        return Statement(new.on_conflict_do_nothing(index_elements=[self._unique]).returning(self._unique))

    async def run(self, database: Executor, rows: Sequence[Mapping[str, Any]]) -> set[Any]:
        """Insert ``rows``; the values of ``unique`` among theirs that other rows have, of the table or of ``rows``.

        Raises:
            IntegrityError, asyncpg.IntegrityConstraintViolationError: another constraint refused a row.
        """
        taken, name = set[Any](), self._unique.key
        for some in self._parts(rows):
            values = {f"{column}_{n}": value for n, row in enumerate(some) for column, value in row.items()}
            added = await database.fetch_all(self._statements[len(some)], **values)
            taken |= (Counter(row[name] for row in some) - Counter(row[name] for row in added)).keys()
        return taken

    def _parts[T](self, rows: Sequence[T]) -> Iterable[Sequence[T]]:
        """Parts of ``MANY``, and the rest one by one."""
        whole = len(rows) - len(rows) % self.MANY
        yield from (rows[begin : begin + self.MANY] for begin in range(0, whole, self.MANY))
        yield from ((row,) for row in rows[whole:])


def translated(
    errors: Mapping[UniqueConstraint | CheckConstraint | TableIndex, type[AppError]],
) -> Callable[[], AbstractContextManager[None]]:
    """Returns a context manager that raises a domain's own error where the database refuses a row."""

    @contextmanager
    def translate() -> Iterator[None]:
        try:
            yield
        except INTEGRITY_ERRORS as refused:
            for constraint, error in errors.items():
                if violates(refused, constraint):
                    raise error from refused
            raise

    return translate
