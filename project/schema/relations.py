"""Foreign keys, one-to-ones and many-to-manies as ``relationship``s, in both directions.

None of them loads by itself (``lazy="raise"``): an ``AsyncSession`` cannot, so a query says what it wants along.
"""

from collections.abc import Iterator
from typing import Any

from django.db import models

from project.schema.columns import Attribute, has_foreign_key
from project.schema.names import attribute, column_attribute
from project.schema.source import Call, quoted

_NEVER_BY_ITSELF = 'lazy="raise"'
_LEAVE_TO_THE_DATABASE = 'passive_deletes="all"'
"""What becomes of the rows that point at a deleted one is for the database to say."""

type Model = type[models.Model]
type ClassNames = dict[Model, str]
"""The models that are generated, with what their classes are called."""


def concrete(model: Any) -> Model:
    """The model whose table holds the rows of ``model``, which may be a proxy."""
    return model._meta.concrete_model  # type: ignore[no-any-return]


def relationships(model: Model, names: ClassNames) -> Iterator[Attribute]:
    """What leads from the rows of a model to those of others, among the models of ``names``."""
    if model._meta.auto_created:
        return  # The table between two sides of a many-to-many: they lead through it, nothing leads to it.
    for field in model._meta.local_fields:
        if isinstance(field, models.ForeignKey):
            yield _to_one(field, names)
    for field in model._meta.local_many_to_many:
        yield _to_many(field, names)
    for back in model._meta.related_objects:
        is_inherited = concrete(back.model) is not model
        if not is_inherited and not back.hidden and back.related_model in names:
            yield _back_to_many(back, names) if back.many_to_many else _back(back, names)


def _to_one(field: Any, names: ClassNames) -> Attribute:
    target = names[concrete(field.related_model)]
    remote_side = [f"remote_side={quoted(_column(field.target_field, names))}"] if _is_to_itself(field) else []
    return _relationship(
        field.name,
        quoted(f"{target} | None" if field.null else target),
        f"foreign_keys=[{column_attribute(field)}]",
        *remote_side,
        *_join(field, names),
        *_mirror(field.remote_field),
    )


def _back(back: Any, names: ClassNames) -> Attribute:
    source = names[back.related_model]
    return _relationship(
        back.get_accessor_name(),
        quoted(f"{source} | None") if back.one_to_one else f"list[{quoted(source)}]",
        f"foreign_keys={quoted(_column(back.field, names))}",
        *_join(back.field, names),
        f"back_populates={quoted(attribute(back.field.name))}",
        _LEAVE_TO_THE_DATABASE,
    )


def _to_many(field: Any, names: ClassNames) -> Attribute:
    return _relationship(
        field.name,
        f"list[{quoted(names[concrete(field.related_model)])}]",
        *_secondary(field, names, field.m2m_field_name(), field.m2m_reverse_field_name()),
        *(_mirror(field.remote_field) if _is_writable(field) else ["viewonly=True"]),
    )


def _back_to_many(back: Any, names: ClassNames) -> Attribute:
    field = back.field
    mirror = f"back_populates={quoted(attribute(field.name))}"
    return _relationship(
        back.get_accessor_name(),
        f"list[{quoted(names[back.related_model])}]",
        *_secondary(field, names, field.m2m_reverse_field_name(), field.m2m_field_name()),
        mirror if _is_writable(field) else "viewonly=True",
    )


def _secondary(field: Any, names: ClassNames, near: str, far: str) -> Iterator[str]:
    """The table between, and the way through it where SQLAlchemy cannot tell its foreign keys apart."""
    between = field.remote_field.through
    yield f"secondary={quoted(between._meta.db_table)}"
    targets = [concrete(key.related_model) for key in between._meta.local_fields if key.is_relation]
    if len(set(targets)) < len(targets):
        yield f"primaryjoin={quoted(_equality(between._meta.get_field(near), names))}"
        yield f"secondaryjoin={quoted(_equality(between._meta.get_field(far), names))}"


def _is_writable(field: Any) -> bool:
    """Whether a pair of ids says all: not where the rows between hold more, nor where Django writes two for one."""
    return bool(field.remote_field.through._meta.auto_created and not field.remote_field.symmetrical)


def _join(field: Any, names: ClassNames) -> list[str]:
    """What SQLAlchemy reads from a foreign key, for a relation that has none in the database."""
    return [] if has_foreign_key(field) else [f"primaryjoin={quoted(_equality(field, names))}"]


def _mirror(back: Any) -> list[str]:
    return [] if back.hidden else [f"back_populates={quoted(attribute(back.get_accessor_name()))}"]


def _is_to_itself(field: Any) -> bool:
    return concrete(field.related_model) is concrete(field.model)


def _equality(field: Any, names: ClassNames) -> str:
    return f"{_column(field, names)} == {_column(field.target_field, names)}"


def _column(field: Any, names: ClassNames) -> str:
    return f"{names[concrete(field.model)]}.{column_attribute(field)}"


def _relationship(name: str, annotation: str, *options: str) -> Attribute:
    return Attribute(
        attribute(name),
        annotation,
        Call("relationship", [*options, _NEVER_BY_ITSELF]),
        imports=("sqlalchemy.orm.relationship",),
    )
