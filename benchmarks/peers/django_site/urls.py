"""The admin alone: what the product's admin is compared with, and what stands beside the bolt peer's API."""

from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
