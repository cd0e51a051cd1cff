"""The page that shows a secret once: it stands in this answer and nowhere else, in no cookie, message or log."""

from collections.abc import Mapping
from typing import Any

from django.contrib.admin import ModelAdmin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.text import capfirst


def show_once(
    request: HttpRequest, model_admin: "ModelAdmin[Any]", shown: Model, values: Mapping[str, str]
) -> HttpResponse:
    """Show ``values``, by name, of something that was just made in the admin."""
    meta = shown._meta
    page = {
        **model_admin.admin_site.each_context(request),
        "title": f"{capfirst(meta.verbose_name)} {shown}",
        "values": values,
        "back": reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist"),
    }
    return TemplateResponse(request, "admin/show_once.html", page, headers={"Cache-Control": "no-store"})
