"""``python manage.py rotate_signing_key``: publish a new key now, sign with it once every verifier knows it."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from project.identity.keys import rotate
from project.identity.models import SigningKey


class Command(BaseCommand):
    """Prints the new key's id, and when it begins to sign."""

    help = "Publish a new signing key; it signs one JWKS lifetime later, and the present ones retire. No restart."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--algorithm", choices=SigningKey.Algorithm.values, help="default: as the present key")
        parser.add_argument(
            "--compromised",
            action="store_true",
            help="the keys got out, or SECRET_KEY was lost: delete them all, sign with the new one at once",
        )

    def handle(self, *args: Any, algorithm: str | None, compromised: bool, **options: Any) -> None:
        key = rotate(algorithm, compromised=compromised)
        self.stdout.write(f"{key.kid} ({key.algorithm}) signs from {key.signs_from:%Y-%m-%d %H:%M:%S} UTC")
