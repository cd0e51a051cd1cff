"""Which scopes there are, and which of them somebody may have: the API's own (project/scopes.py) and OpenID's."""

from collections.abc import Iterable
from typing import Any

from oauth2_provider.scopes import BaseScopes

from project.accounts.models import User
from project.clients.models import Client
from project.scopes import SCOPES

OPENID_SCOPES = {
    "openid": "Know that it is you",
    "profile": "See your name",
    "email": "See your e-mail address",
}
"""OpenID Connect Core 1.0, section 5.4. They need no permission: they are about the user alone."""

DESCRIPTIONS = {**OPENID_SCOPES, **{name: rule.description for name, rule in SCOPES.items()}}
"""Every scope, in words for the consent page."""


def understood(scopes: Iterable[str]) -> list[str]:
    """Returns those of ``scopes`` that exist, each once."""
    return [scope for scope in dict.fromkeys(scopes) if scope in DESCRIPTIONS]


def held_by(user: User, scopes: Iterable[str]) -> list[str]:
    """Those of ``scopes`` that ``user`` holds, by themselves or by a group; a deactivated one holds none."""
    return [scope for scope in scopes if user.is_active and is_held(user, scope)]


def is_held(user: User, scope: str) -> bool:
    """Whether ``user`` holds every permission that ``scope`` needs; nobody holds a scope that does not exist."""
    if scope in OPENID_SCOPES:
        return True
    return scope in SCOPES and user.has_perms(SCOPES[scope].permissions)


class Scopes(BaseScopes):  # The toolkit's extension point.
    """The scopes as django-oauth-toolkit asks for them."""

    def get_all_scopes(self) -> dict[str, str]:
        return DESCRIPTIONS

    def get_available_scopes(
        self, application: Client | None = None, request: Any = None, *_: Any, **__: Any
    ) -> list[str]:
        """What ``application`` may ask for; without one, everything."""
        if application is None:
            return list(DESCRIPTIONS)
        return [scope for scope in application.scopes if scope in DESCRIPTIONS]

    def get_default_scopes(
        self, application: Client | None = None, request: Any = None, *_: Any, **__: Any
    ) -> list[str]:
        """What ``application`` is taken to ask for when it names no scope (RFC 6749, section 3.3)."""
        return self.get_available_scopes(application)
