"""A field as a ``mapped_column``."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import models

from project.schema.defaults import default_arguments
from project.schema.fields import AnyField, column_type
from project.schema.names import column_attribute
from project.schema.source import Call, quoted


@dataclass(frozen=True, slots=True)
class Attribute:
    """A line of a generated class, ``name: Mapped[annotation] = call``, and the dotted names it needs."""

    name: str
    annotation: str
    call: Call
    imports: tuple[str, ...]


def column(field: AnyField) -> Attribute:
    """The attribute for a field that has a column.

    Raises:
        CannotMap: it has no exact counterpart.
    """
    column_is = column_type(field)
    filled_by = default_arguments(field)
    name = column_attribute(field)
    in_database: Any = field.column
    return Attribute(
        name=name,
        annotation=f"{column_is.annotation} | None" if _is_nullable(field) else column_is.annotation,
        call=Call(
            "mapped_column",
            [
                *([quoted(in_database)] if in_database != name else []),
                column_is.type,
                *_foreign_key(field),
                *_key_arguments(field, column_is.annotation),
                *(source.code for source in filled_by),
            ],
        ),
        imports=(*column_is.imports, *(name for source in filled_by for name in source.imports)),
    )


def has_foreign_key(field: AnyField) -> bool:
    """Whether the database itself holds the column to the values of another one."""
    return isinstance(field, models.ForeignKey) and getattr(field, "db_constraint", True)


def _is_key(field: AnyField) -> bool:
    """Whether the column is its table's primary key, or part of a composite one."""
    key = field.model._meta.pk
    return field.primary_key or (isinstance(key, models.CompositePrimaryKey) and field in key.fields)


def _is_nullable(field: AnyField) -> bool:
    # Django makes every generated column without NOT NULL, whatever its null= says.
    return not _is_key(field) and (field.null or isinstance(field, models.GeneratedField))


def _foreign_key(field: AnyField) -> Iterator[Call]:
    if isinstance(field, models.ForeignKey) and has_foreign_key(field):
        target = field.target_field
        rule = getattr(field.remote_field.on_delete, "operation", None)  # Of DB_CASCADE and its like alone.
        on_delete = [f"ondelete={quoted(rule)}"] if rule else []
        yield Call("sa.ForeignKey", [quoted(f"{target.model._meta.db_table}.{target.column}"), *on_delete])


def _key_arguments(field: AnyField, annotation: str) -> Iterator[str]:
    is_counted = isinstance(field, models.AutoField)  # Django makes that true of its big and small kin, too.
    if is_counted:
        yield "sa.Identity()"
    if _is_key(field):
        yield "primary_key=True"
        if annotation == "int" and not is_counted:
            yield "autoincrement=False"  # Otherwise SQLAlchemy takes it for one that the database counts.
    elif field.unique:
        yield "unique=True"
