"""Which log-ins of clients a browser session has allowed, so that logging out ends them and no others."""

import uuid
from typing import Any

from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.http import HttpRequest

from project.identity.revocation import end_family

FAMILIES = "identity.families"
MOST_REMEMBERED = 50
"""Of one session; the oldest of more has long been forgotten by its client."""


def remember_family(request: HttpRequest, family: uuid.UUID) -> None:
    """Let the session's end be the end of this log-in too."""
    families = [*request.session.get(FAMILIES, []), str(family)]
    request.session[FAMILIES] = families[-MOST_REMEMBERED:]


def end_families(sender: Any, request: HttpRequest | None, **_kwargs: Any) -> None:
    """End what the session has allowed; Django clears the session right after."""
    if request is None or not hasattr(request, "session"):
        return
    with transaction.atomic():
        for family in request.session.get(FAMILIES, []):
            end_family(family, reason="logged out")


def connect() -> None:
    """Listen to Django's log-outs, the admin's included."""
    user_logged_out.connect(end_families, dispatch_uid="identity.end_families")
