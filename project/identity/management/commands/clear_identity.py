"""``python manage.py clear_identity``: delete what has expired, for a nightly job."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone
from oauth2_provider.models import clear_expired, get_device_grant_model

from project.identity.revocation import forget_old_events


class Command(BaseCommand):
    """Prints how many revocation events it forgot."""

    help = "Delete expired tokens, codes and device codes, and revocation events older than 90 days."

    def handle(self, *args: Any, **options: Any) -> None:
        clear_expired()
        get_device_grant_model().objects.filter(expires__lt=timezone.now()).delete()
        self.stdout.write(f"{forget_old_events()} old revocation events deleted")
