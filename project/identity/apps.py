from django.apps import AppConfig


class IdentityConfig(AppConfig):
    """Signing keys and access tokens."""

    name = "project.identity"
    label = "identity"
