"""System checks: traps for the second writer of the tables, and drift. docs/schema.md explains each id.

They look at the models of the apps that SCHEMA_APPS names, which are the project's own to mend, and not at those
that come along because a foreign key leads to them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core import checks
from django.db import connections, models

from project.schema import generated, sqlite
from project.schema.defaults import is_this_moment
from project.schema.errors import CannotMap
from project.schema.fields import AnyField

SHOWN_LINES = 6
"""How much of a drift a warning shows; ``generate_tables --check`` shows all of it."""

_DATABASE_RULES: dict[Any, str] = {
    models.CASCADE: "DB_CASCADE",
    models.SET_NULL: "DB_SET_NULL",
    models.SET_DEFAULT: "DB_SET_DEFAULT",
}
_REFUSING: tuple[Any, ...] = (models.PROTECT, models.RESTRICT, models.DO_NOTHING)
"""Rules that need no counterpart: without a rule of its own, the database refuses to delete what is pointed at."""


def run(app_configs: Sequence[AppConfig] | None) -> list[checks.CheckMessage]:
    """All of them; drift is looked for in development only, where it can be mended."""
    return [
        *times_are_utc(),
        *defaults_are_in_the_database(app_configs),
        *deletions_are_in_the_database(app_configs),
        *functions_are_everywhere(app_configs),
        *(tables_are_up_to_date() if settings.DEBUG else ()),
    ]


def tables_are_up_to_date() -> list[checks.CheckMessage]:
    """schema.E001, schema.W001: the generated file cannot be made, or is not what the models say."""
    try:
        lines = generated.drift()
    except CannotMap as error:
        return [checks.Error(f"{error.fault}.", hint=error.cure, obj=error.field, id="schema.E001")]
    if not lines:
        return []
    changes = [line.rstrip() for line in lines[2:] if line[0] in "+-"]  # The first two name the files.
    shown = "\n".join([*changes[:SHOWN_LINES], *(["..."] if len(changes) > SHOWN_LINES else [])])
    return [
        checks.Warning(
            f"{generated.file_name()} is not what the models say:\n{shown}",
            hint="Run 'python manage.py makemigrations', which writes it, or 'python manage.py generate_tables'.",
            id="schema.W001",
        )
    ]


def defaults_are_in_the_database(app_configs: Sequence[AppConfig] | None = None) -> list[checks.CheckMessage]:
    """schema.W002: a default that SQL could say, and only Python does."""
    return [
        checks.Warning(
            "Its default exists in Python only: whoever inserts with SQL gets NULL, or an error.",
            hint=f"Say it in the database too: db_default={_sql_default(field)}.",
            obj=field,
            id="schema.W002",
        )
        for field in _own_fields(app_configs)
        if not field.has_db_default() and (is_this_moment(field) or _is_a_value(field))
    ]


def _is_a_value(field: AnyField) -> bool:
    """Whether a default is the same for every row; a function such as ``uuid4`` has no SQL on every database."""
    return field.has_default() and not callable(field.default)


def _sql_default(field: AnyField) -> str:
    return "Now()" if is_this_moment(field) else repr(field.default)


def deletions_are_in_the_database(app_configs: Sequence[AppConfig] | None = None) -> list[checks.CheckMessage]:
    """schema.W003: rows that Django would delete or change together with another, and the database would not."""
    return [
        checks.Warning(
            "Its on_delete is a rule that only Django follows: in the database the deletion is refused.",
            hint=f"Use models.{rule or 'DB_SET_NULL'}, along the whole chain of references (fields.E323 tells where).",
            obj=field,
            id="schema.W003",
        )
        for field, rule in _rules_of_django_alone(app_configs)
    ]


def _rules_of_django_alone(app_configs: Sequence[AppConfig] | None) -> Iterator[tuple[AnyField, str | None]]:
    for field in _own_fields(app_configs):
        # Django itself makes the link to a parent model, and no other rule can be asked for there.
        if isinstance(field, models.ForeignKey) and not field.auto_created and not _is_bound_to_django(field):
            on_delete: Any = field.remote_field.on_delete
            if _is_of_django_alone(on_delete):
                yield field, _DATABASE_RULES.get(on_delete)


def _is_of_django_alone(on_delete: Any) -> bool:
    return on_delete not in _REFUSING and not hasattr(on_delete, "on_delete_sql")


def _is_bound_to_django(field: "models.ForeignKey[Any, Any]") -> bool:
    """Whether it points at another's model that itself points on by such a rule: then Django allows no other."""
    target: Any = field.related_model
    return target._meta.app_label not in settings.SCHEMA_APPS and any(
        isinstance(key, models.ForeignKey) and _is_of_django_alone(key.remote_field.on_delete)
        for key in target._meta.local_fields
    )


def functions_are_everywhere(app_configs: Sequence[AppConfig] | None = None) -> list[checks.CheckMessage]:
    """schema.W004: a table of SQLite that asks for a function which Django adds to its own connections."""
    if connections["default"].vendor != "sqlite":
        return []
    return [
        checks.Warning(
            f"Its constraints, indexes, generated fields or database defaults use the SQL function {name}, "
            "which SQLite has on Django's connections only: SQLAlchemy cannot write the table.",
            hint="Say it with functions that SQLite has itself, or without one.",
            obj=model,
            id="schema.W004",
        )
        for model in _own_models(app_configs)
        if (name := sqlite.missing_function(model))
    ]


def times_are_utc() -> list[checks.CheckMessage]:
    """schema.W005: moments that Django does not keep in UTC."""
    faults: dict[str, object] = {
        "USE_TZ is off, so moments have no time zone": not settings.USE_TZ,
        "DATABASES['default']['TIME_ZONE'] is set, so Django keeps moments in that zone": settings.DATABASES[
            "default"
        ].get("TIME_ZONE"),
    }
    return [
        checks.Warning(
            f"{fault}: the API reads and writes them in UTC.",
            hint="Set USE_TZ = True, and no TIME_ZONE on the database.",
            id="schema.W005",
        )
        for fault, is_so in faults.items()
        if is_so
    ]


def _own_models(app_configs: Iterable[AppConfig] | None) -> Iterator[type[models.Model]]:
    """The models that the project can mend, of the apps under check."""
    for label in settings.SCHEMA_APPS:
        if app_configs is None or label in {app.label for app in app_configs}:
            yield from (model for model in apps.get_app_config(label).get_models() if not model._meta.proxy)


def _own_fields(app_configs: Iterable[AppConfig] | None) -> Iterator[AnyField]:
    for model in _own_models(app_configs):
        yield from model._meta.local_concrete_fields
