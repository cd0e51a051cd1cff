"""Triggers: the database itself ends a user's tokens, whoever changes the user (the admin, the API, SQL by hand).

A new password, activity or superuser flag, and a group or permission that the user or one of their groups gets or
loses, raise ``token_version``; and whatever raises it writes the event that every process polls, in the same
transaction, as does a deletion. A new password and a deactivation end the refresh tokens too. ``token_version`` never
falls, so that an instance which was read earlier can be saved.

They are no migration, because on SQLite Django replaces a table to change it, where its triggers are lost, and others
that name it stand in the way: ``migrate`` takes them away there before it changes anything, and looks after every run,
everywhere, whether they are there and as they are written here.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection, transaction

PREFIX = "identity_ends_tokens"
NEEDED = frozenset(
    {"accounts_user", "identity_revocationevent", "oauth2_provider_refreshtoken", "auth_group_permissions"}
)

CHANGED = "(OLD.password <> NEW.password OR OLD.is_active <> NEW.is_active OR OLD.is_superuser <> NEW.is_superuser)"
ENDED = "(OLD.password <> NEW.password OR (OLD.is_active AND NOT NEW.is_active))"
REASON = f"CASE WHEN {CHANGED} THEN 'the account changed' ELSE 'permissions changed, or all tokens were ended' END"
DELETED = "'the account was deleted'"
GIVING = (
    ("user_group", "accounts_user_groups", "SELECT user_id FROM {rows}"),
    ("user_permission", "accounts_user_user_permissions", "SELECT user_id FROM {rows}"),
    (
        "group_permission",
        "auth_group_permissions",
        "SELECT user_id FROM accounts_user_groups WHERE group_id IN (SELECT group_id FROM {rows})",
    ),
)
"""What gives permissions: a name, the table, and whose tokens a row of it ends."""


def install(**_kwargs: Any) -> None:
    """Create the triggers where they are missing or not as written here; remove them where their tables are gone."""
    statements = _postgresql() if connection.vendor == "postgresql" else _sqlite()
    version = hashlib.sha256("".join(statements).encode()).hexdigest()[:8]
    with transaction.atomic(), connection.cursor() as cursor:
        is_possible = set(connection.introspection.table_names(cursor)) >= NEEDED
        present = _present(cursor)
        wanted = {f"{PREFIX}_{version}_{number}" for number in range(len(statements))} if is_possible else set()
        if {name for name, _table in present} == wanted:
            return
        _drop(cursor, present)
        for name, statement in zip(sorted(wanted, key=_number), statements, strict=bool(wanted)):
            cursor.execute(statement.replace("{name}", name))


def make_way(plan: Sequence[Any] = (), **_kwargs: Any) -> None:
    """Remove the triggers where they would stand in the way of the migrations of ``plan``."""
    if plan and connection.vendor == "sqlite":
        with transaction.atomic(), connection.cursor() as cursor:
            _drop(cursor, _present(cursor))


def _drop(cursor: Any, triggers: Iterable[tuple[str, str]]) -> None:
    for name, table in triggers:
        on_table = f" ON {table}" if connection.vendor == "postgresql" else ""
        cursor.execute(f"DROP TRIGGER {name}{on_table}")


def _number(name: str) -> int:
    return int(name.rpartition("_")[2])


def _present(cursor: Any) -> list[tuple[str, str]]:
    if connection.vendor == "postgresql":
        cursor.execute(
            "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal AND starts_with(tgname, %s)",
            [PREFIX],
        )
    else:
        cursor.execute(
            "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger' AND name LIKE %s", [f"{PREFIX}%"]
        )
    return list(cursor.fetchall())


def _sqlite() -> list[str]:
    user = f"""
        CREATE TRIGGER {{name}} AFTER UPDATE OF password, is_active, is_superuser, token_version ON accounts_user
        WHEN {CHANGED} OR OLD.token_version <> NEW.token_version
        BEGIN
            UPDATE accounts_user SET token_version = MAX(OLD.token_version, NEW.token_version) + {CHANGED}
            WHERE id = NEW.id;
            INSERT INTO identity_revocationevent (kind, subject, version, reason)
            SELECT 'user', CAST(id AS TEXT), token_version, {REASON}
            FROM accounts_user WHERE id = NEW.id AND token_version > OLD.token_version;
            UPDATE oauth2_provider_refreshtoken SET revoked = STRFTIME('%Y-%m-%d %H:%M:%f', 'now')
            WHERE {ENDED} AND user_id = NEW.id AND revoked IS NULL;
        END"""
    raising = [
        f"""
        CREATE TRIGGER {{name}} AFTER {event} ON {table}
        BEGIN
            UPDATE accounts_user SET token_version = token_version + 1 WHERE id IN ({users.format(rows=rows)});
        END"""
        for _name, table, users in GIVING
        for event, rows in (("INSERT", _row("NEW", table)), ("DELETE", _row("OLD", table)))
    ]
    deleted = f"""
        CREATE TRIGGER {{name}} AFTER DELETE ON accounts_user
        BEGIN
            INSERT INTO identity_revocationevent (kind, subject, version, reason)
            VALUES ('user', CAST(OLD.id AS TEXT), OLD.token_version + 1, {DELETED});
        END"""
    return [user, deleted, *raising]


def _row(row: str, table: str) -> str:
    column = "group_id" if table == "auth_group_permissions" else "user_id"
    return f"(SELECT {row}.{column} AS {column})"


def _postgresql() -> list[str]:
    user = f"""
        CREATE OR REPLACE FUNCTION {PREFIX}_of_user() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.token_version := GREATEST(OLD.token_version, NEW.token_version) + {CHANGED}::int;
            IF NEW.token_version > OLD.token_version THEN
                INSERT INTO identity_revocationevent (kind, subject, version, reason)
                VALUES ('user', NEW.id::text, NEW.token_version, {REASON});
            END IF;
            IF {ENDED} THEN
                UPDATE oauth2_provider_refreshtoken SET revoked = now() WHERE user_id = NEW.id AND revoked IS NULL;
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER {{name}} BEFORE UPDATE ON accounts_user FOR EACH ROW
        WHEN ({CHANGED} OR OLD.token_version <> NEW.token_version) EXECUTE FUNCTION {PREFIX}_of_user()"""
    deleted = f"""
        CREATE OR REPLACE FUNCTION {PREFIX}_of_deleted_user() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO identity_revocationevent (kind, subject, version, reason)
            VALUES ('user', OLD.id::text, OLD.token_version + 1, {DELETED});
            RETURN NULL;
        END $$;
        CREATE TRIGGER {{name}} AFTER DELETE ON accounts_user FOR EACH ROW
        EXECUTE FUNCTION {PREFIX}_of_deleted_user()"""
    raising = []
    for name, table, users in GIVING:
        function = f"""
        CREATE OR REPLACE FUNCTION {PREFIX}_of_{name}() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE accounts_user SET token_version = token_version + 1 WHERE id IN ({users.format(rows="changed")});
            RETURN NULL;
        END $$;"""
        raising += [
            f"""{function}
        CREATE TRIGGER {{name}} AFTER {event} ON {table} REFERENCING {rows} TABLE AS changed
        FOR EACH STATEMENT EXECUTE FUNCTION {PREFIX}_of_{name}()"""
            for event, rows in (("INSERT", "NEW"), ("DELETE", "OLD"))
        ]
    return [user, deleted, *raising]
