from django.apps import AppConfig


class IdempotencyConfig(AppConfig):
    """Answers kept for those who ask again."""

    name = "project.idempotency"
    label = "idempotency"
