"""``python manage.py generate_tables [--check]``: the SQLAlchemy tables of the API, from the Django models."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from project.schema import generated
from project.schema.errors import CannotMap


class Command(BaseCommand):
    """Writes the file; with ``--check`` only tells, by its exit status, whether that is needed."""

    help = "Write the SQLAlchemy tables that the API uses, from the models of the apps in SCHEMA_APPS."
    requires_system_checks = ()  # One of them tells of the drift that this is about to show or to mend.

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--check", action="store_true", help="write nothing; print what would change, and exit 1 if anything would"
        )

    def handle(self, *args: Any, check: bool, **options: Any) -> None:
        try:
            if check:
                self._refuse_drift()
            else:
                written = generated.write()
                self.stdout.write(f"{generated.file_name()}: {'written' if written else 'no change'}")
        except CannotMap as error:
            raise CommandError(str(error)) from error

    def _refuse_drift(self) -> None:
        if lines := generated.drift():
            self.stdout.writelines(lines)
            raise CommandError(
                f"{generated.file_name()} is not what the models say: run 'python manage.py generate_tables'"
            )
