"""What a browser session remembers: since when its user is there, and which log-ins of clients it has allowed."""

import time
import uuid
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import transaction
from django.http import HttpRequest

from project.identity.revocation import end_family

SIGNED_IN_AT = "identity.signed_in_at"
FAMILIES = "identity.families"
MOST_REMEMBERED = 50
"""Of one session; the oldest of more has long been forgotten by its client."""


def signed_in_for_s(request: HttpRequest) -> int:
    """For how many whole seconds the session's user has been signed in; since 1970 when nobody knows."""
    return int(time.time() - request.session.get(SIGNED_IN_AT, 0))


def remember_when(sender: Any, request: HttpRequest, **_kwargs: Any) -> None:
    """Note when a user has signed in."""
    request.session[SIGNED_IN_AT] = time.time()


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
    """Listen to Django's log-ins and log-outs, the admin's included."""
    user_logged_in.connect(remember_when, dispatch_uid="identity.remember_when")
    user_logged_out.connect(end_families, dispatch_uid="identity.end_families")
