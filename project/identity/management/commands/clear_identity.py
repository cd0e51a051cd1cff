"""``python manage.py clear_identity``: delete what has expired, for a nightly job."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone
from oauth2_provider.models import clear_expired, get_device_grant_model

from project.clients.registration import delete_unused
from project.identity.lifetimes import UNUSED_CLIENT_TTL_S
from project.identity.models import DeviceResources
from project.identity.revocation import forget_old_events
from project.identity.sessions import forget_sign_ins

DEVICE_RESOURCES_TTL = timedelta(days=1)
"""Longer than any device code is good."""


class Command(BaseCommand):
    """Prints how many revocation events, and unused clients that registered themselves, it deleted."""

    help = (
        "Delete expired tokens, codes and device codes, the sign-ins of log-ins that are over, revocation events older "
        "than 90 days, and unused clients that registered themselves."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        clear_expired()
        get_device_grant_model().objects.filter(expires__lt=timezone.now()).delete()
        DeviceResources.objects.filter(created_at__lt=timezone.now() - DEVICE_RESOURCES_TTL).delete()
        forget_sign_ins()
        self.stdout.write(f"{forget_old_events()} old revocation events deleted")
        if count := delete_unused(UNUSED_CLIENT_TTL_S):
            self.stdout.write(f"{count} unused clients deleted, which had registered themselves")
