from django.apps import AppConfig


class ClientsConfig(AppConfig):
    """The OAuth clients that may ask the issuer for tokens."""

    name = "project.clients"
    label = "clients"
    verbose_name = "OAuth clients"
