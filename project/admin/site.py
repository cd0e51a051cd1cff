"""The admin's site. Whatever is registered with it obeys the rule about rights and shows no hidden column.

This holds for Django's own pages, the toolkit's, the project's, and for those that a team adds: ``register`` puts
``Bounded`` in front of each admin class, so no class can forget it.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, cast

from django.contrib import messages
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.exceptions import NotRegistered
from django.contrib.admin.options import Action, ActionLocation
from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import PermissionDenied
from django.db.models import Field, Model, QuerySet
from django.http import HttpRequest, HttpResponse

from project.accounts.rights import editor, may_change, within
from project.admin.lookups import is_offered

READING = ("view",)
"""The permissions of an action that changes nothing."""


class Bounded(ModelAdmin):  # type: ignore[type-arg]
    """The rules of every page of the admin."""

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or may_change(editor(request), obj))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or may_change(editor(request), obj))

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save the last part of a row, and undo all of it if it now carries more than its editor holds.

        Raises:
            PermissionDenied: it does, although forms offer only what the editor may give.
        """
        super().save_related(request, form, formsets, change)
        inlines = [row for formset in formsets for row in _changed_rows(formset.forms)]
        _demand_within(request, [form.instance, *inlines])

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Save the rows of an inline, unless one that is changed or deleted carries more than its editor holds.

        Raises:
            PermissionDenied: one does.
        """
        _demand_within(request, _changed_rows(formset.initial_forms))
        super().save_formset(request, form, formset, change)

    def formfield_for_foreignkey(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        return super().formfield_for_foreignkey(db_field, request, **_limited(db_field, request, kwargs))

    def formfield_for_manytomany(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        return super().formfield_for_manytomany(db_field, request, **_limited(db_field, request, kwargs))

    def get_actions(
        self, request: HttpRequest, action_location: ActionLocation = ActionLocation.CHANGE_LIST
    ) -> dict[str, Any]:
        """Return the actions whose permissions the editor has. An action that names none is a superuser's alone."""
        actions = cast("dict[str, Action]", super().get_actions(request, action_location))
        return {
            name: replace(action, func=_on_rows_within(action.func))
            for name, action in actions.items()
            if editor(request).is_superuser or hasattr(action.func, "allowed_permissions")
        }

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return super().lookup_allowed(lookup, value, request) and is_offered(self, lookup, value, request)


class BoundedSite(AdminSite):
    """The site of ``/admin``."""

    def register(
        self, model_or_iterable: Any, admin_class: "type[ModelAdmin[Any]] | None" = None, **options: Any
    ) -> None:
        admin_class = admin_class or ModelAdmin
        bounded = type(admin_class.__name__, (Bounded, admin_class), {"__module__": admin_class.__module__})
        super().register(model_or_iterable, bounded, **options)

    def autocomplete_view(self, request: HttpRequest) -> HttpResponse:
        return cast("HttpResponse", BoundedAutocomplete.as_view(admin_site=self)(request))


class BoundedAutocomplete(AutocompleteJsonView):
    """Suggests what the form's field would accept from this editor, and nothing else."""

    def get_queryset(self) -> QuerySet[Any]:
        site: Any = self.admin_site
        try:
            source = site.get_model_admin(self.source_field.model)
        except NotRegistered:
            raise PermissionDenied from None
        field = source.formfield_for_dbfield(self.source_field, self.request)
        accepted: QuerySet[Any] = field.queryset
        return super().get_queryset().filter(pk__in=accepted.values("pk"))


def _limited(field: "Field[Any, Any]", request: HttpRequest, arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns a form field's arguments; where it gives permissions or groups, it offers only what the editor holds."""
    given = cast("type[Model]", field.related_model)
    if not issubclass(given, (Permission, Group)):
        return arguments
    rows = arguments.get("queryset", QuerySet(given))
    return {**arguments, "queryset": within(editor(request), rows.all())}


def _changed_rows(forms: list[Any]) -> list[Model]:
    """Returns the rows of those of an inline's forms that were filled in, but for rows that were deleted."""
    return [form.instance for form in forms if form.has_changed() and form.instance.pk]


def _demand_within(request: HttpRequest, rows: list[Model]) -> None:
    if not all(may_change(editor(request), row) for row in rows):
        raise PermissionDenied


def _on_rows_within(action: Callable[..., Any]) -> Callable[..., Any]:
    """Returns ``action``, which refuses to run while a selected row carries more than the editor holds."""
    if tuple(getattr(action, "allowed_permissions", ())) == READING:
        return action

    @wraps(action)
    def run(model_admin: "ModelAdmin[Any]", request: HttpRequest, rows: QuerySet[Any]) -> Any:
        if within(editor(request), rows).count() < rows.count():
            text = (
                "Nothing was done: selected rows carry rights that you do not hold. Select others, or ask a superuser."
            )
            model_admin.message_user(request, text, messages.ERROR)
            return None
        return action(model_admin, request, rows)

    return run
