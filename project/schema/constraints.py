"""The constraints that a writer may want to know by name, as constants that an IntegrityError is compared with.

Conditions are written as SQLite has them. Constraints that only PostgreSQL has stay out: they bind all the same.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.db import models
from django.db.utils import NotSupportedError

from project.schema import sqlite
from project.schema.names import constant
from project.schema.source import Call, quoted


@dataclass(frozen=True, slots=True)
class Constraint:
    """A table argument: a constant of the module where Django gave it a name, or a bare call."""

    name: str | None
    call: Call


def constraints(model: type[models.Model]) -> list[Constraint]:
    """The unique and check constraints of a model's table."""
    return [
        *(
            Constraint(None, Call("sa.UniqueConstraint", _columns(model, names)))
            for names in model._meta.unique_together
        ),
        *(
            Constraint(constant(declared.name), call)
            for declared in model._meta.constraints
            for call in _declared(model, declared)
        ),
    ]


def _declared(model: type[models.Model], declared: models.BaseConstraint) -> Iterator[Call]:
    try:
        match declared:
            case models.CheckConstraint():
                condition = quoted(sqlite.check_condition(model, declared))
                yield Call("sa.CheckConstraint", [condition, _name(declared)])
            case models.UniqueConstraint(expressions=(), condition=None):
                yield _unique_constraint(model, declared)
            case models.UniqueConstraint():
                yield _unique_index(model, declared)
    except NotSupportedError:
        return  # It asks for what only PostgreSQL has.


def _unique_constraint(model: type[models.Model], declared: models.UniqueConstraint) -> Call:
    options = []
    if declared.deferrable is not None:
        options += ["deferrable=True", f"initially={quoted(declared.deferrable.value.upper())}"]
    if declared.nulls_distinct is False:
        options.append("postgresql_nulls_not_distinct=True")
    return Call("sa.UniqueConstraint", [*_columns(model, declared.fields), _name(declared), *options])


def _unique_index(model: type[models.Model], declared: models.UniqueConstraint) -> Call:
    """Django makes an index where a unique constraint has a condition, or is on expressions."""
    expressions, condition = sqlite.index(model, declared)
    on = _columns(model, declared.fields) if declared.fields else [_sql(expressions)]
    where = [f"sqlite_where={_sql(condition)}"] if condition else []
    return Call("sa.Index", [quoted(declared.name), *on, "unique=True", *where])


def _columns(model: type[models.Model], fields: Iterable[str]) -> list[str]:
    return [quoted(column) for name in fields if (column := getattr(model._meta.get_field(name), "column", None))]


def _name(declared: models.BaseConstraint) -> str:
    return f"name={quoted(declared.name)}"


def _sql(text: str) -> str:
    return f"sa.text({quoted(text)})"
