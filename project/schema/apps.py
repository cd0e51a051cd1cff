from collections.abc import Sequence

from django.apps import AppConfig
from django.core.checks import CheckMessage, Tags, register


class SchemaConfig(AppConfig):
    """The Django models, written out as SQLAlchemy tables."""

    name = "project.schema"
    label = "schema"

    def ready(self) -> None:
        register(check_schema, Tags.models)


def check_schema(app_configs: Sequence[AppConfig] | None, **_options: object) -> list[CheckMessage]:
    """What ``manage.py`` checks of the schema."""
    from project.schema import checks  # noqa: PLC0415  A process that serves checks nothing, and need not hold it.

    return checks.run(app_configs)
