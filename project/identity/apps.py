from django.apps import AppConfig
from django.core.checks import Tags, register
from django.db.models.signals import post_migrate, pre_migrate


class IdentityConfig(AppConfig):
    """The issuer of tokens: OAuth 2 and OpenID Connect."""

    name = "project.identity"
    label = "identity"

    def ready(self) -> None:
        from project.identity import devices, sessions, triggers  # noqa: PLC0415  Models are ready by now.

        sessions.connect()
        devices.connect()
        register(triggers.check_triggers, Tags.database)
        pre_migrate.connect(triggers.make_way, sender=self)
        post_migrate.connect(triggers.install, sender=self)
