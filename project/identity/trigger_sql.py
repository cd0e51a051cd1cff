"""The SQL of the triggers that end tokens, with the names of tables and columns that the models have.

On PostgreSQL no trigger's definition names a column: its function compares the rows. PostgreSQL would refuse to change
the type of a column that a definition names. Each function keeps the ``search_path`` of the connection that made it:
a writer may have another one, as ``pg_restore`` and ``psql`` have.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.db import models
from oauth2_provider.models import get_application_model, get_refresh_token_model

from project.identity.models import RevocationEvent

PREFIX = "identity_ends_tokens"
DELETED = "'the account was deleted'"
CLIENT_DELETED = "'the client was deleted'"


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger: the table that it watches, and its statement, in which ``{name}`` stands for its name."""

    table: str
    statement: str


class Names:
    """The quoted names of the tables and columns that the triggers use.

    Raises:
        django.core.exceptions.FieldDoesNotExist: the user or client model lacks a field that the triggers need.
    """

    def __init__(self, quote: Callable[[str], str]) -> None:
        self._quote = quote
        self.needed: defaultdict[str, set[str]] = defaultdict(set)
        """The tables, and the columns of each, that have to exist. These names are not quoted."""
        self.models: set[type[models.Model]] = set()
        user = get_user_model()
        group = user._meta.get_field("groups").related_model
        self.user = _Table(
            self, user, "password", "is_active", "is_superuser", "token_version", "password_version", id=_pk(user)
        )
        self.event = _Table(self, RevocationEvent, "kind", "subject", "version", "reason")
        self.refresh_token = _Table(self, get_refresh_token_model(), "user", "application", "revoked")
        client = get_application_model()
        self.client = _Table(self, client, "client_id", "is_active", "allowed_scopes", "token_version", id=_pk(client))
        self.user_group = _Link(self, user, "groups")
        self.user_permission = _Link(self, user, "user_permissions")
        self.group_permission = _Link(self, group, "permissions")

    def name(self, model: type[models.Model], column: str) -> str:
        """The quoted name of a column, which is noted as needed."""
        self.needed[model._meta.db_table].add(column)
        self.models.add(model)
        return self._quote(column)

    def quoted(self, table: str) -> str:
        return self._quote(table)


def _pk(model: type[models.Model]) -> str:
    return str(model._meta.pk.name)


class _Table:
    """A table (as text: its quoted name) and its columns, each an attribute with the name of the field."""

    def __init__(self, names: Names, model: type[models.Model], *fields: str, **renamed: str) -> None:
        self.table = model._meta.db_table
        self._quoted = names.quoted(self.table)
        for attribute, field in {**{field: field for field in fields}, **renamed}.items():
            column: Any = model._meta.get_field(field)
            setattr(self, attribute, names.name(model, column.column))

    def __str__(self) -> str:
        return self._quoted

    def __getattr__(self, attribute: str) -> str:
        raise AttributeError(attribute)  # Tells mypy that the columns are texts.


class _Link:
    """The table of a many-to-many field (as text: its quoted name)."""

    def __init__(self, names: Names, model: Any, field_name: str) -> None:
        field = model._meta.get_field(field_name)
        through = field.remote_field.through
        self.table = through._meta.db_table
        self._quoted = names.quoted(self.table)
        self.holder = names.name(through, field.m2m_column_name())
        """The column of the user, or of the group, that holds a group or permission."""
        self.held = names.name(through, field.m2m_reverse_name())

    def __str__(self) -> str:
        return self._quoted


def triggers(vendor: str, names: Names) -> list[Trigger]:
    """All triggers, in the order in which they are created."""
    return _postgresql(names) if vendor == "postgresql" else _sqlite(names)


def _user_conditions(n: Names, is_other: str) -> tuple[str, str, str]:
    """Whether the password, the account, and whether what ends log-ins has changed.

    A statement that replaces the hash of the same password says so by the complement of ``password_version``
    (``User.check_password``). Every other new value of the password's column is a new password.
    """
    u = n.user
    is_rehash = f"NEW.{u.password_version} = -1 - OLD.{u.password_version}"
    password = f"(OLD.{u.password} {is_other} NEW.{u.password} AND NOT ({is_rehash}))"
    changed = (
        f"({password} OR OLD.{u.is_active} {is_other} NEW.{u.is_active}"
        f" OR OLD.{u.is_superuser} {is_other} NEW.{u.is_superuser})"
    )
    ended = f"({password} OR (OLD.{u.is_active} AND NOT NEW.{u.is_active}))"
    return password, changed, ended


def _client_conditions(n: Names, is_other: str) -> tuple[str, str]:
    """Whether a client's tokens end, and whether its log-ins end too."""
    c = n.client
    columns = (c.is_active, c.allowed_scopes, c.client_id)
    changed = "(" + " OR ".join(f"OLD.{column} {is_other} NEW.{column}" for column in columns) + ")"
    return changed, f"(OLD.{c.is_active} AND NOT NEW.{c.is_active})"


def _reason(changed: str, of_change: str, otherwise: str) -> str:
    return f"CASE WHEN {changed} THEN '{of_change}' ELSE '{otherwise}' END"


def _insert_event(n: Names) -> str:
    e = n.event
    return f"INSERT INTO {e} ({e.kind}, {e.subject}, {e.version}, {e.reason})"


def _last_version(n: Names, kind: str, subject: str) -> str:
    """The version below which tokens of a user or client with this id were ended, perhaps before it was deleted."""
    e = n.event
    return (
        f"COALESCE((SELECT MAX(COALESCE({e.version}, 1)) FROM {e}"
        f" WHERE {e.kind} = '{kind}' AND {e.subject} = {subject}), 0)"
    )


def _version_of_client_id(n: Names) -> tuple[str, str]:
    """The last version of a new client's id, and that of the id that an update gives to a client, or else 0."""
    client_id = n.client.client_id
    last = _last_version(n, "client", f"NEW.{client_id}")
    return last, f"CASE WHEN OLD.{client_id} <> NEW.{client_id} THEN {last} ELSE 0 END"


def _links(n: Names) -> tuple[tuple[str, _Link, Callable[[str], str]], ...]:
    """What gives permissions: a name, the table, and the query for the users whom the holders in some rows mean."""

    def of_users(holders: str) -> str:
        return holders

    def of_groups(holders: str) -> str:
        return f"SELECT {n.user_group.holder} FROM {n.user_group} WHERE {n.user_group.held} IN ({holders})"

    return (
        ("user_group", n.user_group, of_users),
        ("user_permission", n.user_permission, of_users),
        ("group_permission", n.group_permission, of_groups),
    )


_EVENTS = {"INSERT": ("NEW",), "DELETE": ("OLD",), "UPDATE": ("OLD", "NEW")}
"""What happens to a row, and the rows that the trigger then sees."""


def _sqlite(n: Names) -> list[Trigger]:
    u, c, r = n.user, n.client, n.refresh_token
    password, changed, ended = _user_conditions(n, "IS NOT")
    client_changed, stopped = _client_conditions(n, "IS NOT")
    last_of_user = _last_version(n, "user", f"CAST(NEW.{u.id} AS TEXT)")
    last_of_client, last_of_new_id = _version_of_client_id(n)
    now = "STRFTIME('%Y-%m-%d %H:%M:%f', 'now')"
    user = f"""
        CREATE TRIGGER {{name}}
        AFTER UPDATE OF {u.password}, {u.is_active}, {u.is_superuser}, {u.token_version}, {u.password_version} ON {u}
        WHEN {changed} OR OLD.{u.token_version} <> NEW.{u.token_version}
            OR OLD.{u.password_version} <> NEW.{u.password_version}
        BEGIN
            UPDATE {u} SET
                {u.token_version} = MAX(OLD.{u.token_version}, NEW.{u.token_version}) + {changed},
                {u.password_version} = OLD.{u.password_version} + {password}
            WHERE {u.id} = NEW.{u.id};
            {_insert_event(n)}
            SELECT 'user', CAST({u.id} AS TEXT), {u.token_version},
                {_reason(changed, "the account changed", "permissions changed, or all tokens were ended")}
            FROM {u} WHERE {u.id} = NEW.{u.id} AND {u.token_version} > OLD.{u.token_version};
            UPDATE {r} SET {r.revoked} = {now} WHERE {ended} AND {r.user} = NEW.{u.id} AND {r.revoked} IS NULL;
        END"""
    user_made = f"""
        CREATE TRIGGER {{name}} AFTER INSERT ON {u} WHEN NEW.{u.token_version} < {last_of_user}
        BEGIN
            UPDATE {u} SET {u.token_version} = {last_of_user} WHERE {u.id} = NEW.{u.id};
        END"""
    deleted = f"""
        CREATE TRIGGER {{name}} AFTER DELETE ON {u}
        BEGIN
            {_insert_event(n)} VALUES ('user', CAST(OLD.{u.id} AS TEXT), OLD.{u.token_version} + 1, {DELETED});
        END"""
    client = f"""
        CREATE TRIGGER {{name}}
        AFTER UPDATE OF {c.client_id}, {c.is_active}, {c.allowed_scopes}, {c.token_version} ON {c}
        WHEN {client_changed} OR OLD.{c.token_version} <> NEW.{c.token_version}
        BEGIN
            UPDATE {c} SET {c.token_version} =
                MAX(MAX(OLD.{c.token_version}, NEW.{c.token_version}) + {client_changed}, {last_of_new_id})
            WHERE {c.id} = NEW.{c.id};
            {_insert_event(n)}
            SELECT 'client', OLD.{c.client_id}, {c.token_version},
                {_reason(client_changed, "the client changed", "all tokens were ended")}
            FROM {c} WHERE {c.id} = NEW.{c.id} AND {c.token_version} > OLD.{c.token_version};
            UPDATE {r} SET {r.revoked} = {now}
            WHERE {stopped} AND {r.application} = NEW.{c.id} AND {r.revoked} IS NULL;
        END"""
    client_made = f"""
        CREATE TRIGGER {{name}} AFTER INSERT ON {c} WHEN NEW.{c.token_version} < {last_of_client}
        BEGIN
            UPDATE {c} SET {c.token_version} = {last_of_client} WHERE {c.id} = NEW.{c.id};
        END"""
    client_deleted = f"""
        CREATE TRIGGER {{name}} AFTER DELETE ON {c}
        BEGIN
            {_insert_event(n)} VALUES ('client', OLD.{c.client_id}, OLD.{c.token_version} + 1, {CLIENT_DELETED});
        END"""
    giving = [
        Trigger(
            link.table,
            f"""
        CREATE TRIGGER {{name}} AFTER {event} ON {link}
        BEGIN
            UPDATE {u} SET {u.token_version} = {u.token_version} + 1
            WHERE {u.id} IN ({users(" UNION ".join(f"SELECT {row}.{link.holder}" for row in rows))});
        END""",
        )
        for _name, link, users in _links(n)
        for event, rows in _EVENTS.items()
    ]
    return [
        Trigger(u.table, user),
        Trigger(u.table, user_made),
        Trigger(u.table, deleted),
        Trigger(c.table, client),
        Trigger(c.table, client_made),
        Trigger(c.table, client_deleted),
        *giving,
    ]


def _postgresql(n: Names) -> list[Trigger]:
    u, c, r = n.user, n.client, n.refresh_token
    password, changed, ended = _user_conditions(n, "IS DISTINCT FROM")
    client_changed, stopped = _client_conditions(n, "IS DISTINCT FROM")
    last_of_user = _last_version(n, "user", f"NEW.{u.id}::text")
    last_of_client, last_of_new_id = _version_of_client_id(n)
    user = f"""
            new_password boolean := {password};
            changed boolean := {changed};
        BEGIN
            IF {ended} THEN
                UPDATE {r} SET {r.revoked} = statement_timestamp() WHERE {r.user} = NEW.{u.id} AND {r.revoked} IS NULL;
            END IF;
            NEW.{u.password_version} := OLD.{u.password_version} + new_password::int;
            NEW.{u.token_version} := GREATEST(OLD.{u.token_version}, NEW.{u.token_version}) + changed::int;
            IF NEW.{u.token_version} > OLD.{u.token_version} THEN
                {_insert_event(n)} VALUES ('user', NEW.{u.id}::text, NEW.{u.token_version},
                    {_reason("changed", "the account changed", "permissions changed, or all tokens were ended")});
            END IF;
            RETURN NEW;"""
    user_made = f"""
        BEGIN
            NEW.{u.token_version} := GREATEST(NEW.{u.token_version}, {last_of_user});
            RETURN NEW;"""
    deleted = f"""
        BEGIN
            {_insert_event(n)} VALUES ('user', OLD.{u.id}::text, OLD.{u.token_version} + 1, {DELETED});
            RETURN NULL;"""
    client = f"""
            changed boolean := {client_changed};
        BEGIN
            IF {stopped} THEN
                UPDATE {r} SET {r.revoked} = statement_timestamp()
                WHERE {r.application} = NEW.{c.id} AND {r.revoked} IS NULL;
            END IF;
            NEW.{c.token_version} := GREATEST(
                GREATEST(OLD.{c.token_version}, NEW.{c.token_version}) + changed::int, {last_of_new_id});
            IF NEW.{c.token_version} > OLD.{c.token_version} THEN
                {_insert_event(n)} VALUES ('client', OLD.{c.client_id}, NEW.{c.token_version},
                    {_reason("changed", "the client changed", "all tokens were ended")});
            END IF;
            RETURN NEW;"""
    client_made = f"""
        BEGIN
            NEW.{c.token_version} := GREATEST(NEW.{c.token_version}, {last_of_client});
            RETURN NEW;"""
    client_deleted = f"""
        BEGIN
            {_insert_event(n)} VALUES ('client', OLD.{c.client_id}, OLD.{c.token_version} + 1, {CLIENT_DELETED});
            RETURN NULL;"""
    giving = [_giving(n, name, link, users, event) for name, link, users in _links(n) for event in _EVENTS]
    emptying = [_emptying(n, name, link, users) for name, link, users in _links(n)]
    return [
        _row_trigger("user", "BEFORE UPDATE", u, user),
        _row_trigger("new_user", "BEFORE INSERT", u, user_made),
        _row_trigger("deleted_user", "AFTER DELETE", u, deleted),
        _row_trigger("client", "BEFORE UPDATE", c, client),
        _row_trigger("new_client", "BEFORE INSERT", c, client_made),
        _row_trigger("deleted_client", "AFTER DELETE", c, client_deleted),
        *giving,
        *emptying,
    ]


def _giving(n: Names, name: str, link: _Link, users: Callable[[str], str], event: str) -> Trigger:
    """Ends the tokens of the users whom a statement gave, or took from, a group or permission."""
    u, rows = n.user, _EVENTS[event]
    holders = " UNION ".join(f"SELECT {link.holder} FROM {row.lower()}_rows" for row in rows)
    referencing = " ".join(f"{row} TABLE AS {row.lower()}_rows" for row in rows)
    function = _function(
        f"{name}_{event.lower()}",
        f"""
        BEGIN
            UPDATE {u} SET {u.token_version} = {u.token_version} + 1 WHERE {u.id} IN ({users(holders)});
            RETURN NULL;""",
    )
    return Trigger(
        link.table,
        f"""{function}
        CREATE TRIGGER {{name}} AFTER {event} ON {link} REFERENCING {referencing}
        FOR EACH STATEMENT EXECUTE FUNCTION {PREFIX}_of_{name}_{event.lower()}()""",
    )


def _emptying(n: Names, name: str, link: _Link, users: Callable[[str], str]) -> Trigger:
    """Ends the tokens of all users of a table that is truncated, for which no other trigger fires."""
    u = n.user
    function = _function(
        f"{name}_truncate",
        f"""
        BEGIN
            UPDATE {u} SET {u.token_version} = {u.token_version} + 1
            WHERE {u.id} IN ({users(f"SELECT {link.holder} FROM {link}")});
            RETURN NULL;""",
    )
    return Trigger(
        link.table,
        f"""{function}
        CREATE TRIGGER {{name}} BEFORE TRUNCATE ON {link}
        FOR EACH STATEMENT EXECUTE FUNCTION {PREFIX}_of_{name}_truncate()""",
    )


def _row_trigger(name: str, event: str, table: _Table, body: str) -> Trigger:
    return Trigger(
        table.table,
        f"""{_function(name, body)}
        CREATE TRIGGER {{name}} {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {PREFIX}_of_{name}()""",
    )


def _function(name: str, body: str) -> str:
    return f"""
        CREATE OR REPLACE FUNCTION {PREFIX}_of_{name}() RETURNS trigger LANGUAGE plpgsql
        SET search_path FROM CURRENT AS $$
        DECLARE{body}
        END $$;"""
