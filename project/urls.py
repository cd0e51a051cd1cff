"""Django's addresses. ``/api``, ``/healthz`` and ``/readyz`` belong to the root app (asgi.py)."""

import json

from django.contrib import admin
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.generic import TemplateView

from project.config import config

admin.site.site_title = admin.site.site_header = "Tandem"


def jwks(_request: HttpRequest) -> JsonResponse:
    """The public keys that verify access tokens, as a JWK Set (RFC 7517)."""
    return JsonResponse(json.loads(config.jwks_file.read_text()) if config.jwks_file.exists() else {"keys": []})


urlpatterns = [
    path(".well-known/jwks.json", jwks),
    path("", TemplateView.as_view(template_name="home.html"), name="home"),
    path("admin/", admin.site.urls),
]
