"""What the API keeps for a caller who repeats a request under one ``Idempotency-Key``."""

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now


class KeptAnswer(models.Model):
    """The first answer to a request, written in the transaction of its effect."""

    caller = models.CharField(max_length=255, help_text="Whose key it is: keys of different callers never meet.")
    route = models.CharField(max_length=255, help_text="Method and path.")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of what was asked, in hexadecimal.")
    status = models.SmallIntegerField(null=True, help_text="Null only inside the transaction that answers.")
    headers = models.JSONField(null=True)
    body = models.BinaryField(null=True)
    created_at = models.DateTimeField(editable=False, db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["caller", "route", "key"], name="idempotency_key_unique")
        ]
        indexes: ClassVar = [models.Index(fields=["created_at"], name="idempotency_created")]

    def __str__(self) -> str:
        return f"{self.key} of {self.caller}"
