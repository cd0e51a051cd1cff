"""The API's scopes, and what of Django's permissions each one needs. Plain data, read by both halves.

A token, or an API key, carries a scope only while its user holds every permission that the scope needs, by themselves
or by a group. Add a scope here; routes then name it (``Requires("users:read")``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class ScopeRule:
    """What a scope allows, in words for the consent page, and the permissions that its user must hold."""

    description: str
    permissions: frozenset[str]


SCOPES: Mapping[str, ScopeRule] = MappingProxyType(
    {
        "users:read": ScopeRule("See the people who have an account here", frozenset({"accounts.view_user"})),
        "users:write": ScopeRule(
            "Create, change and deactivate accounts", frozenset({"accounts.add_user", "accounts.change_user"})
        ),
    }
)
