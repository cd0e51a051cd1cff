"""Who fills a column that an INSERT or UPDATE leaves out: the database where it can, Python where it must."""

import datetime
import sys
from collections.abc import Callable
from typing import Any

from django.db import models
from django.utils import timezone

from project.schema.errors import CannotMap
from project.schema.fields import TYPES, AnyField
from project.schema.source import Source, literal
from project.versions import VersionField

_FROM_THE_DATABASE = "sa.FetchedValue()"

_COUNTERPARTS: dict[Callable[[], Any], Source] = {
    datetime.date.today: Source("datetime.date.today", ("datetime",)),
}
"""Functions that cannot be named by where they are defined, and what does the same without Django."""


def teach_default(function: Callable[[], Any], counterpart: Source) -> None:
    """Have a field's ``default=function`` written as ``counterpart``, a callable that needs no Django."""
    _COUNTERPARTS[function] = counterpart


def default_arguments(field: AnyField) -> tuple[Source, ...]:
    """The keywords of ``mapped_column`` that say what the column holds when nobody says so.

    Raises:
        CannotMap: the default is a callable, or a value, that cannot be named outside Django.
    """
    if isinstance(field, models.GeneratedField):
        return Source(f"server_default={_FROM_THE_DATABASE}"), Source(f"server_onupdate={_FROM_THE_DATABASE}")
    return *_on_insert(field), *_on_update(field)


def _on_insert(field: AnyField) -> tuple[Source, ...]:
    if field.has_db_default():
        return (Source(f"server_default={_FROM_THE_DATABASE}"),)
    if is_this_moment(field):
        return (_keyword("default", _this_moment(field)),)
    if field.has_default():
        return (_keyword("default", _named(field) if callable(field.default) else _written(field)),)
    return ()


def _on_update(field: AnyField) -> tuple[Source, ...]:
    if isinstance(field, VersionField):
        raised = literal(f'"{field.column}" + 1')
        return (Source(f"onupdate=sa.text({raised.code})"),)
    return (_keyword("onupdate", _this_moment(field)),) if getattr(field, "auto_now", False) else ()


def is_this_moment(field: AnyField) -> bool:
    """Whether Django sets the field to the moment at which it makes a row."""
    return getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False) or field.default is timezone.now


def _this_moment(field: AnyField) -> Source:
    """What Django calls for it: dates and times of day are those of the process's zone."""
    if isinstance(field, models.DateTimeField):
        return Source("now", (f"{TYPES}.now",))
    if isinstance(field, models.DateField):
        return Source("datetime.date.today", ("datetime",))
    return Source("time_of_day", (f"{TYPES}.time_of_day",))


def _written(field: AnyField) -> Source:
    try:
        return literal(field.default)
    except ValueError as error:
        raise CannotMap(
            field, f"its default cannot be written down: {error}", "Give the field a db_default."
        ) from error


def _named(field: AnyField) -> Source:
    function: Any = field.default
    if function in _COUNTERPARTS:
        return _COUNTERPARTS[function]
    module, name = getattr(function, "__module__", None) or "", getattr(function, "__qualname__", "")
    if module == "builtins":
        return Source(name)
    if name.isidentifier() and module.partition(".")[0] in sys.stdlib_module_names:
        return Source(name, (f"{module}.{name}",))
    raise CannotMap(
        field,
        f"its default {module}.{name} is a function that only Django's side can import",
        "Give the field a db_default, or name a function that does the same without Django: "
        "project.schema.defaults.teach_default() in your AppConfig.ready().",
    )


def _keyword(name: str, value: Source) -> Source:
    return Source(f"{name}={value.code}", value.imports)
