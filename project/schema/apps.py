from django.apps import AppConfig

from project.schema import checks


class SchemaConfig(AppConfig):
    """The Django models, written out as SQLAlchemy tables."""

    name = "project.schema"
    label = "schema"

    def ready(self) -> None:
        checks.register()
