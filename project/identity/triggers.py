"""Triggers: the database ends tokens, whichever program changes a user or a client (the admin, the API, SQL by hand).

A new password, activity or superuser flag, and a group or permission that the user or one of their groups gets or
loses, raise the user's ``token_version``; another activity or other scopes raise the client's. Whatever raises a
``token_version`` writes the event that every process polls, in the same transaction, as does a deletion. A new
password, a deactivation and a stopped client end refresh tokens too. ``token_version`` never falls, so an instance that
was read earlier can be saved. ``password_version`` counts the passwords of a user: sessions depend on it.

The triggers are no migration, because on SQLite Django replaces a table to change it. The triggers of that table are
lost then, and triggers that name it stand in the way. ``migrate`` removes them there before it changes anything, and
checks after every run, on both databases, that all are present and as ``trigger_sql`` has them.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage
from django.core.exceptions import FieldDoesNotExist
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

from project.identity.models import RevocationEvent
from project.identity.trigger_sql import PREFIX, Names, Trigger, triggers

CONSEQUENCE = "without them a deactivated user keeps access"


def install(using: str = DEFAULT_DB_ALIAS, **_kwargs: Any) -> None:
    """Create the triggers, unless all are present as ``trigger_sql`` has them.

    While a migration that makes one of their tables or columns is pending, there are none.

    Raises:
        CommandError: they cannot be created; one line says why.
    """
    if not router.allow_migrate_model(using, RevocationEvent):
        return
    connection = connections[using]
    try:
        with transaction.atomic(using), connection.cursor() as cursor:
            names, wanted = _wanted(connection)
            absent = _absent(connection, cursor, names)
            if absent and _is_migration_pending(connection, names):
                wanted = {}
            elif absent:
                raise CommandError(
                    f"the triggers that end tokens cannot be created ({CONSEQUENCE}): {', '.join(absent)} is missing"
                )
            present = _present(cursor)
            if _enabled(present) == {(name, trigger.table) for name, trigger in wanted.items()}:
                return
            _drop(cursor, present)
            for name, trigger in wanted.items():
                cursor.execute(trigger.statement.replace("{name}", name))
    except (FieldDoesNotExist, DatabaseError) as error:
        reason = str(error).partition("\n")[0]
        raise CommandError(f"the triggers that end tokens cannot be created ({CONSEQUENCE}): {reason}") from error


def make_way(using: str = DEFAULT_DB_ALIAS, plan: Sequence[Any] = (), **_kwargs: Any) -> None:
    """Remove the triggers where they would prevent the migrations of ``plan``.

    On PostgreSQL they prevent none. There they stay, because other processes may serve during a migration.
    """
    if plan and connections[using].vendor == "sqlite":
        with transaction.atomic(using), connections[using].cursor() as cursor:
            _drop(cursor, _present(cursor))


def missing(using: str = DEFAULT_DB_ALIAS) -> list[str]:
    """The tables that lack a trigger, or have one that is disabled or not as ``trigger_sql`` has it."""
    connection = connections[using]
    _names, wanted = _wanted(connection)
    with connection.cursor() as cursor:
        enabled = _enabled(_present(cursor))
    return sorted({trigger.table for name, trigger in wanted.items() if (name, trigger.table) not in enabled})


def check_triggers(*, databases: Sequence[str] | None = None, **_options: Any) -> list[CheckMessage]:
    """identity.E001: the triggers cannot be created. identity.W001: some are missing.

    The second is no error, because an error would stop ``migrate``, which creates them.
    """
    found: list[CheckMessage] = []
    for using in databases or ():
        if not router.allow_migrate_model(using, RevocationEvent):
            continue
        try:
            names, _triggers = _wanted(connections[using])
        except FieldDoesNotExist as error:
            return [checks.Error(f"The triggers that end tokens cannot be created: {error}.", id="identity.E001")]
        if not _is_migration_pending(connections[using], names) and (tables := missing(using)):
            found.append(
                checks.Warning(
                    f"The database lacks triggers that end tokens, on {', '.join(tables)}: {CONSEQUENCE}.",
                    hint="Run 'python manage.py migrate', which creates them.",
                    id="identity.W001",
                )
            )
    return found


def _wanted(connection: BaseDatabaseWrapper) -> tuple[Names, dict[str, Trigger]]:
    """The triggers by their names, which change with what any of them does."""
    names = Names(connection.ops.quote_name)
    all_of_them = triggers(connection.vendor, names)
    version = hashlib.sha256("".join(trigger.statement for trigger in all_of_them).encode()).hexdigest()[:8]
    return names, {f"{PREFIX}_{version}_{number}": trigger for number, trigger in enumerate(all_of_them)}


def _absent(connection: BaseDatabaseWrapper, cursor: Any, names: Names) -> list[str]:
    """The tables, and the columns as ``table.column``, that the triggers need and the database lacks."""
    tables = set(connection.introspection.table_names(cursor))
    absent = sorted(names.needed.keys() - tables)
    for table, columns in sorted(names.needed.items()):
        if table in tables:
            described = {column.name for column in connection.introspection.get_table_description(cursor, table)}
            absent += [f"{table}.{column}" for column in sorted(columns - described)]
    return absent


def _is_migration_pending(connection: BaseDatabaseWrapper, names: Names) -> bool:
    executor = MigrationExecutor(connection)
    labels = {model._meta.app_label for model in names.models}
    targets = [node for node in executor.loader.graph.leaf_nodes() if node[0] in labels]
    return bool(executor.migration_plan(targets))


def _drop(cursor: Any, present: Iterable[tuple[str, str, bool]]) -> None:
    quote = cursor.db.ops.quote_name
    for name, table, _is_enabled in present:
        on_table = f" ON {quote(table)}" if cursor.db.vendor == "postgresql" else ""
        cursor.execute(f"DROP TRIGGER {quote(name)}{on_table}")


def _enabled(present: Iterable[tuple[str, str, bool]]) -> set[tuple[str, str]]:
    return {(name, table) for name, table, is_enabled in present if is_enabled}


def _present(cursor: Any) -> list[tuple[str, str, bool]]:
    """The name of each trigger, its table, and whether it is enabled."""
    if cursor.db.vendor == "postgresql":
        cursor.execute(
            "SELECT tgname, relname, tgenabled IN ('O', 'A') FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
            " WHERE NOT tgisinternal AND starts_with(tgname, %s) AND pg_table_is_visible(tgrelid)",
            [PREFIX],
        )
    else:
        cursor.execute(
            "SELECT name, tbl_name, 1 FROM sqlite_master WHERE type = 'trigger' AND name LIKE %s", [f"{PREFIX}%"]
        )
    return list(cursor.fetchall())
