"""Django's addresses. ``/api``, ``/healthz`` and ``/readyz`` belong to the root app (asgi.py)."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import TemplateView

admin.site.site_title = admin.site.site_header = "Tandem"


urlpatterns = [
    path("", TemplateView.as_view(template_name="home.html"), name="home"),
    path("admin/", admin.site.urls),
    path(".well-known/", include("project.identity.metadata")),
    # By its name, so that it is imported when somebody signs in: it brings 6 MB that to publish keys does not need.
    path("", ("project.identity.urls", "identity", "identity")),
]
