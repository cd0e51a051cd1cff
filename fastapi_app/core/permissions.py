"""Which of the API's scopes a user holds, by Django's permissions: their own, their groups', or a superuser's."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, false, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from fastapi_app.core.statements import Row
from fastapi_app.core.tables import ContentType, GroupPermissions, Permission, User, UserGroups, UserUserPermissions
from project.scopes import SCOPES

_WANTED = sorted({tuple(name.split(".", 1)) for rule in SCOPES.values() for name in rule.permissions})


def _is_wanted() -> ColumnElement[bool]:
    """The few permissions that scopes ask for, out of the hundreds that there are."""
    return or_(false(), *(and_(ContentType.app_label == app, Permission.codename == name) for app, name in _WANTED))


def with_permissions(*columns: InstrumentedAttribute[Any]) -> Select[*tuple[Any, ...]]:
    """``columns`` of users and what is joined to them, once for each permission held that a scope asks for.

    Those of a user who holds none come once, with ``permission`` null. Join, and narrow to one user, what you get; give
    the rows to ``held_scopes``.
    """
    wanted = (
        select(Permission.id, (ContentType.app_label + "." + Permission.codename).label("name"))
        .join(ContentType, Permission.content_type_id == ContentType.id)
        .where(_is_wanted())
        .subquery("wanted")
    )
    own = exists().where(UserUserPermissions.user_id == User.id, UserUserPermissions.permission_id == wanted.c.id)
    of_a_group = exists().where(
        UserGroups.user_id == User.id,
        GroupPermissions.group_id == UserGroups.group_id,
        GroupPermissions.permission_id == wanted.c.id,
    )
    return (
        select(*columns, User.is_active, User.is_superuser, User.token_version, wanted.c.name.label("permission"))
        .select_from(User)
        .outerjoin(wanted, or_(own, of_a_group))
    )


def held_scopes(rows: Iterable[Row]) -> frozenset[str]:
    """The scopes that the user of these rows may be given."""
    rows = list(rows)
    if any(row["is_superuser"] for row in rows):
        return frozenset(SCOPES)
    held = {row["permission"] for row in rows}
    return frozenset(scope for scope, rule in SCOPES.items() if rule.permissions <= held)
