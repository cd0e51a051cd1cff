"""Devices that somebody has signed in from before: guesses made elsewhere do not lock these out.

A cookie names, for each account that has signed in with it, the user, the ``password_version`` of that moment and the
device. It is signed, and believed for that one account only, until the password changes. What else ends tokens (a
permission that is given or taken, a deactivation) says nothing about the device, and leaves it known. The cookie lets
nobody in: it only chooses which limits count a wrong password (``project.identity.limits``). OWASP's "device cookies"
are the model.
"""

import secrets
from dataclasses import astuple, dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.signals import user_logged_in
from django.core import signing
from django.http import HttpRequest, HttpResponseBase

from project.accounts.models import User

COOKIE = "known_device"
SALT = "identity.known_device"
KEPT_S = 180 * 24 * 60 * 60
"""How long a device is remembered after the last sign-in from it."""
MOST_ACCOUNTS = 5
"""Of one device; the account that signed in longest ago is forgotten first."""
LONGEST_COOKIE = 2000
"""Characters that are worth checking a signature over."""

_SIGNED_IN = "_identity_signed_in_user"
_DEVICE = "_identity_known_device"


@dataclass(frozen=True, slots=True)
class _Entry:
    user_id: int
    password_version: int
    device: str


def known_device(request: HttpRequest, address: str) -> str | None:
    """Returns the id of the device if the account with this address has signed in from it; looked up once a request."""
    known: dict[str, str | None] = request.__dict__.setdefault(_DEVICE, {})
    if address not in known:
        known[address] = _find(_entries(request), address)
    return known[address]


def _find(entries: list[_Entry], address: str) -> str | None:
    if not entries or "\x00" in address:
        return None  # Without a signed cookie a guess costs no query. PostgreSQL takes no NUL.
    account = User.objects.filter(email=address).values_list("pk", "password_version").first()
    return next((entry.device for entry in entries if (entry.user_id, entry.password_version) == account), None)


def _entries(request: HttpRequest) -> list[_Entry]:
    cookie = request.COOKIES.get(COOKIE, "")
    if not cookie or len(cookie) > LONGEST_COOKIE:
        return []
    try:
        return [_Entry(*entry) for entry in signing.loads(cookie, salt=SALT, max_age=KEPT_S)]
    except (signing.BadSignature, ValueError, TypeError):
        return []


def note_sign_in(sender: Any, request: HttpRequest | None, user: User, **_kwargs: Any) -> None:
    """Notes who has signed in with a request; its response remembers the device."""
    if request is not None:
        request.__dict__[_SIGNED_IN] = user


def signed_in(request: HttpRequest) -> User | None:
    """Returns the user who has signed in with this very request."""
    user: User | None = request.__dict__.get(_SIGNED_IN)
    return user


def remember_device(request: HttpRequest, response: HttpResponseBase, user: User) -> None:
    """Sets the cookie of a device that ``user`` has just signed in from."""
    entries = _entries(request)
    # The device keeps its id, and with it what is counted against it.
    device = next((entry.device for entry in entries if entry.user_id == user.pk), secrets.token_urlsafe(12))
    others = [entry for entry in entries if entry.user_id != user.pk][: MOST_ACCOUNTS - 1]
    entries = [_Entry(user.pk, user.password_version, device), *others]
    response.set_cookie(
        COOKIE,
        signing.dumps([astuple(entry) for entry in entries], salt=SALT),
        max_age=KEPT_S,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def connect() -> None:
    """Listens to Django's log-ins, the admin's included."""
    user_logged_in.connect(note_sign_in, dispatch_uid="identity.note_sign_in")
