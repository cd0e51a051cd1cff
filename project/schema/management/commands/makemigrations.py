"""``python manage.py makemigrations``, which also brings the generated tables up to date."""

from typing import Any

from django.core.management import CommandError
from django.core.management.commands import makemigrations

from project.schema import generated
from project.schema.errors import CannotMap


class Command(makemigrations.Command):
    """Django's own; when it may write, it writes the generated file too."""

    def handle(self, *app_labels: Any, **options: Any) -> None:
        super().handle(*app_labels, **options)
        if options["dry_run"] or options["check_changes"]:
            return
        try:
            written = generated.write()
        except CannotMap as error:
            raise CommandError(f"the migrations are made, but not {generated.file_name()}: {error}") from error
        if written:
            self.log(f"{generated.file_name()}: written")
