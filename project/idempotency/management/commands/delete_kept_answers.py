"""``manage.py delete_kept_answers``: for a daily job. The API deletes some itself, as it goes."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from project.config import ANSWERS_KEPT_FOR
from project.idempotency.models import KeptAnswer


class Command(BaseCommand):
    """See ``help``."""

    help = "Delete the answers kept for repeated requests (Idempotency-Key) that are older than a day."

    def handle(self, *_args: Any, **_options: Any) -> None:
        deleted, _ = KeptAnswer.objects.filter(created_at__lt=timezone.now() - ANSWERS_KEPT_FOR).delete()
        self.stdout.write(f"{deleted} deleted")
