"""What things are called in the generated module."""

import keyword
import re
from collections import Counter
from collections.abc import Sequence

from django.db import models

from project.schema.fields import AnyField

_KEPT_BY_SQLALCHEMY = frozenset({"metadata", "registry", "type_annotation_map"})
# An attribute of one of these names would hide what the lines below it in its class refer to.
_PYTHONS = frozenset({"Any", "Decimal", "UUID", "datetime", "dict", "list"})
_SQLALCHEMYS = frozenset({"Base", "DeclarativeBase", "Mapped", "mapped_column", "relationship", "sa"})
_EXACT_TYPES = frozenset({"Duration", "ExactDecimal", "FiniteDate", "IpAddress", "Json", "TimeOfDay", "UtcDateTime"})
_TAKEN = _KEPT_BY_SQLALCHEMY | _PYTHONS | _SQLALCHEMYS | _EXACT_TYPES | {"now", "time_of_day"}


def attribute(name: str) -> str:
    """A field's or relation's name, with an underscore at its end where the plain name is taken.

    Django forbids names that end with an underscore, so the two never meet.
    """
    return f"{name}_" if keyword.iskeyword(name) or name in _TAKEN else name


def column_attribute(field: AnyField) -> str:
    """The attribute that holds a field's column."""
    return attribute(field.attname)


def constant(constraint_name: str) -> str:
    """The constant that holds a named constraint."""
    return re.sub(r"\W|^(?=\d)", "_", constraint_name).upper()


def class_names(tables: Sequence[type[models.Model]]) -> dict[type[models.Model], str]:
    """A class for each model: its own name, after its app's where two apps have the same."""
    plain = {model: _class_name(model) for model in tables}
    times = Counter(plain.values())
    return {
        model: name if times[name] == 1 and name not in _TAKEN else f"{_camel(model._meta.app_label)}{name}"
        for model, name in plain.items()
    }


def _class_name(model: type[models.Model]) -> str:
    """``Model``, or ``ModelField`` for the table that Django makes for a many-to-many field (its ``Model_field``)."""
    return _camel(model.__name__) if model._meta.auto_created else model.__name__


def _camel(name: str) -> str:
    return "".join(f"{part[:1].upper()}{part[1:]}" for part in name.split("_"))
