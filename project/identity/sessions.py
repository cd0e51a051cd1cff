"""What a browser session remembers: when and how its user signed in, and which log-ins of clients it has allowed."""

import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.http import HttpRequest
from django.utils import timezone
from oauth2_provider.models import get_refresh_token_model

from project.accounts.models import User
from project.config import config
from project.identity.models import SignIn
from project.identity.revocation import end_family

SIGNED_IN_AT = "identity.signed_in_at"
METHODS = "identity.methods"
FAMILIES = "identity.families"
MOST_REMEMBERED = 50
"""Of one session; the oldest of more has long been forgotten by its client."""

METHODS_OF = {"django.contrib.auth.backends.ModelBackend": ["pwd"]}
"""How a user signs in with each of Django's authentication backends, as values of ``amr`` (RFC 8176, section 2).

Tokens have no ``amr`` and no ``acr`` after any other backend. A second factor adds its value to the session's.
"""
ACR_OF_PASSWORD = "urn:oasis:names:tc:SAML:2.0:ac:classes:" + (
    "PasswordProtectedTransport" if config.is_https else "Password"
)
"""OpenID Connect Core 1.0, section 2, asks for a URI: SAML's names say whether the password travelled encrypted."""
ACR_OF = {frozenset({"pwd"}): ACR_OF_PASSWORD}
"""The authentication context class (``acr``) that each set of methods amounts to."""


def signed_in_for_s(request: HttpRequest) -> int:
    """For how many whole seconds the session's user has been signed in; since 1970 when nobody knows."""
    return int(time.time() - request.session.get(SIGNED_IN_AT, 0))


def remember_sign_in(sender: Any, request: HttpRequest, user: User, **_kwargs: Any) -> None:
    """Note when and how a user has signed in."""
    request.session[SIGNED_IN_AT] = time.time()
    request.session[METHODS] = METHODS_OF.get(getattr(user, "backend", ""), [])


def begin_family(request: HttpRequest, family: uuid.UUID) -> None:
    """Keep with a log-in of a client when and how its user signed in here: later sign-ins do not change that."""
    if (signed_in_at := request.session.get(SIGNED_IN_AT)) is None:
        return  # The session is older than this version. Its log-ins have no auth_time.
    methods = request.session.get(METHODS, [])
    signed_in = {
        "user": request.user,
        "auth_time": datetime.fromtimestamp(int(signed_in_at), UTC),
        "amr": " ".join(methods),
        "acr": ACR_OF.get(frozenset(methods), ""),
    }
    SignIn.objects.update_or_create(family=family, defaults=signed_in)


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


def forget_sign_ins() -> None:
    """Delete what is kept of log-ins that have no refresh token, once no code can lead to one any more."""
    tokens = get_refresh_token_model().objects.filter(token_family=OuterRef("family"))
    SignIn.objects.filter(~Exists(tokens), created_at__lt=timezone.now() - timedelta(days=1)).delete()


def connect() -> None:
    """Listen to Django's log-ins and log-outs, the admin's included."""
    user_logged_in.connect(remember_sign_in, dispatch_uid="identity.remember_when")
    user_logged_out.connect(end_families, dispatch_uid="identity.end_families")
