"""Statements: SQLAlchemy Core, compiled once, when the module that holds them is imported."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from asyncpg import Record
from sqlalchemy import BindParameter, Dialect, Float
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import TypedReturnsRows
from sqlalchemy.types import TypeEngine

type Row = dict[str, Any]
"""A row by the names of its columns, as a schema reads it."""

POSTGRESQL: Dialect = asyncpg.dialect()  # type: ignore[no-untyped-call]
FLOAT8, NUMERIC = 701, 1700
"""PostgreSQL's ids of the two types that SQLAlchemy's numbers ask for; other types do not look."""


class Statement:
    """A ``select``, or an ``insert``, ``update`` or ``delete`` with ``returning``: a constant of a repository.

    What varies are ``bindparam``s, given by name when it is run. PostgreSQL gets the text that was compiled here,
    SQLite gets the same statement through SQLAlchemy; the column types read and write alike on both ways.

    Raises:
        sqlalchemy.exc.CompileError: it cannot be compiled without its values, as an ``in_`` list: write
            ``column == any_(bindparam("ids", type_=ARRAY(...)))``, or use a session.
    """

    def __init__(self, core: TypedReturnsRows[*tuple[Any, ...]]) -> None:
        self.core = core
        self.columns = tuple(core.exported_columns.keys())
        compiled = core.compile(dialect=POSTGRESQL, compile_kwargs={"render_postcompile": True})
        assert isinstance(compiled, SQLCompiler)  # noqa: S101  What a statement with rows compiles to.
        self.sql = str(compiled)
        self.is_read = self.sql.startswith("SELECT")  # What begins WITH may write.
        self.names, self._arguments = _arguments(compiled)
        self.rows = _row_maker(
            {name: _reader(_implementation(column.type)) for name, column in core.exported_columns.items()}
        )
        """Makes rows of what PostgreSQL answered."""

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """PostgreSQL's positional arguments.

        Raises:
            TypeError: a value is missing, or there is one that the statement has no place for.
        """
        if values.keys() != self.names:
            raise TypeError(f"the statement takes {sorted(self.names)}, not {sorted(values)}")
        return [argument(values) for argument in self._arguments]


type _Argument = Callable[[Mapping[str, Any]], Any]
type _Reader = Callable[[Any], Any]


def _arguments(compiled: SQLCompiler) -> tuple[frozenset[str], list[_Argument]]:
    """The names that must be given, and for each position what makes its argument of the values given."""
    defaults = {
        **{column.key: column.default for column in compiled.insert_prefetch},
        **{column.key: column.onupdate for column in compiled.update_prefetch},
    }
    names, arguments = set[str](), list[_Argument]()
    for name in compiled.positiontup or ():
        bind = compiled.binds[name]
        if name in defaults:
            value = _computed(defaults[name])
        elif bind.required:
            names.add(name)
            value = itemgetter(name)
        else:
            value = _constant(bind)
        write = _implementation(bind.type).bind_processor(POSTGRESQL)
        arguments.append(value if write is None else _written(value, write))
    return frozenset(names), arguments


def _implementation(column_type: TypeEngine[Any]) -> TypeEngine[Any]:
    return column_type.dialect_impl(POSTGRESQL)


def _reader(column_type: TypeEngine[Any]) -> _Reader | None:
    """What makes a value of the type from what asyncpg read, where that is not the same."""
    return column_type.result_processor(POSTGRESQL, FLOAT8 if isinstance(column_type, Float) else NUMERIC)


def _row_maker(readers: Mapping[str, _Reader | None]) -> Callable[[Sequence[Record]], list[Row]]:
    """What makes rows of records, written out for these columns: ``[{"id": v0, "sum": read1(v1)} for v0, v1 in ...]``.

    As a ``namedtuple`` is, because to go through the columns of each record takes twice as long.
    """
    values, items, reading = list[str](), list[str](), dict[str, Any]()
    for place, (column, read) in enumerate(readers.items()):
        values.append(f"v{place}")
        items.append(f"{column!r}: " + (f"read{place}(v{place})" if read else f"v{place}"))
        reading[f"read{place}"] = read
    source = f"lambda records: [{{{', '.join(items)}}} for {', '.join(values)}, in records]"
    maker: Callable[[Sequence[Record]], list[Row]] = eval(source, reading)  # noqa: S307  Made of quoted names alone.
    return maker


def _computed(default: Any) -> _Argument:
    """A default, or ``onupdate``, that Python has: a function, or a value."""
    return (lambda _values: default.arg(None)) if default.is_callable else (lambda _values: default.arg)


def _constant(bind: BindParameter[Any]) -> _Argument:
    return lambda _values: bind.effective_value


def _written(value: _Argument, write: Callable[[Any], Any]) -> _Argument:
    return lambda values: write(value(values))
