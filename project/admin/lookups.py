"""Which columns a list of the admin may be filtered by: those that its page offers or shows, and no other.

Django lets a query string filter by every column of the model (``?device_code__startswith=a``), which reads a column
that no page shows, letter by letter.
"""

from collections.abc import Iterator
from typing import Any

from django.contrib.admin import ModelAdmin
from django.contrib.admin.widgets import url_params_from_lookup_dict
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model
from django.http import HttpRequest


def columns_of(model: type[Model], lookup: str) -> str:
    """Returns the columns that ``lookup`` names, without a relation's own key, without transforms and comparison.

    ``application__id__exact`` is ``application``. A lookup without a column is empty, such as a filter's own parameter.
    """
    names: list[str] = []
    relation: Any = None
    for part in lookup.split("__"):
        try:
            field: Any = model._meta.pk if part == "pk" else model._meta.get_field(part)
        except FieldDoesNotExist:
            break
        if relation is None or not (field.concrete and (field.primary_key or field is relation.target_field)):
            names.append(field.name)
        if not field.is_relation or field.related_model is None:
            break
        relation, model = field, field.related_model
    return "__".join(names)


def is_offered(model_admin: "ModelAdmin[Any]", lookup: str, value: str, request: HttpRequest) -> bool:
    """Returns whether a list may be filtered by ``lookup``."""
    columns = columns_of(model_admin.model, lookup)
    return not columns or columns in set(_offered(model_admin, request)) or _limits_popup(model_admin, lookup, value)


def _offered(model_admin: "ModelAdmin[Any]", request: HttpRequest) -> Iterator[str]:
    """Yields the columns that are filters, the date hierarchy, searched, or shown in the list."""
    yield model_admin.opts.pk.name
    yield model_admin.date_hierarchy or ""
    for search_field in model_admin.get_search_fields(request):
        yield columns_of(model_admin.model, str(search_field).lstrip("^=@"))
    for shown in model_admin.get_list_display(request):
        yield shown if isinstance(shown, str) else ""
    for item in model_admin.get_list_filter(request):
        named: Any = item[0] if isinstance(item, (list, tuple)) else item
        yield named if isinstance(named, str) else str(getattr(named, "parameter_name", getattr(named, "name", "")))


def _limits_popup(model_admin: "ModelAdmin[Any]", lookup: str, value: str) -> bool:
    """Returns whether a foreign key's ``limit_choices_to`` asks for exactly this, as its pop-up does."""
    limits: Any = model_admin.opts.related_fkey_lookups
    return any(
        (lookup, value) in url_params_from_lookup_dict(limit() if callable(limit) else limit).items()
        for limit in limits
    )
