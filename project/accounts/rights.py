"""The one rule about rights: staff act only within the rights that they hold themselves.

Some rows carry rights: an account and a group carry permissions, an OAuth client carries scopes, an API key or an
external identity acts as its account. A person who changes such a row can use its rights, or give them away. So a
staff member who is not a superuser may change or delete a row, or run an action on it, only while they hold every
right that it carries, before the change and after it. The admin site asks this module about each row
(``project.admin.site``).

An app whose rows carry rights registers a bound for them (``@bounds(Model)``).
"""

from collections.abc import Callable
from typing import Any, cast

from django.contrib.auth.models import Group, Permission
from django.db.models import Model, QuerySet, Value
from django.db.models.functions import Concat
from django.http import HttpRequest

from project.accounts.models import User

type Bound = Callable[[User, QuerySet[Any]], QuerySet[Any]]

_bounds: dict[type[Model], Bound] = {}


def editor(request: HttpRequest) -> User:
    """Returns the staff member who sent a request to the admin, which lets nobody else in."""
    return cast("User", request.user)


def bounds(*models: type[Model]) -> Callable[[Bound], Bound]:
    """Registers a function: of some rows of ``models`` it returns those that carry no more than an editor holds."""

    def register(bound: Bound) -> Bound:
        _bounds.update(dict.fromkeys(models, bound))
        return bound

    return register


def within[M: Model](editor: User, rows: QuerySet[M]) -> QuerySet[M]:
    """Returns those of ``rows`` that carry no right which ``editor`` lacks; for a superuser that is all of them."""
    if editor.is_superuser:
        return rows
    bound = next((_bounds[model] for model in rows.model.__mro__ if model in _bounds), None)
    return rows if bound is None else bound(editor, rows)


def may_change(editor: User, row: Model) -> bool:
    """Returns whether ``row``, as the database has it now, carries no right which ``editor`` lacks."""
    return editor.is_superuser or within(editor, QuerySet(type(row)).filter(pk=row.pk)).exists()


def _lacking(editor: User) -> QuerySet[Permission]:
    """Returns the permissions that ``editor`` does not hold, whichever authentication backend grants them."""
    name = Concat("content_type__app_label", Value("."), "codename")
    return Permission.objects.alias(name_of=name).exclude(name_of__in=editor.get_all_permissions())


@bounds(User)
def _accounts(editor: User, rows: QuerySet[User]) -> QuerySet[User]:
    # Deactivated accounts count with all that they would hold, because activating them is a change as well.
    lacking = _lacking(editor)
    return (
        rows.filter(is_superuser=False)
        .exclude(user_permissions__in=lacking)
        .exclude(groups__in=Group.objects.filter(permissions__in=lacking))
    )


@bounds(Group)
def _groups(editor: User, rows: QuerySet[Group]) -> QuerySet[Group]:
    return rows.exclude(permissions__in=_lacking(editor))


@bounds(Permission)
def _permissions(editor: User, rows: QuerySet[Permission]) -> QuerySet[Permission]:
    return rows.exclude(pk__in=_lacking(editor))
