"""What the rows of identity carry of rights: a client its scopes, and whatever acts as an account the account's.

The rule itself is in ``project.accounts.rights``. It covers the revocation of tokens as well, because a staff member
who may not change an account may not sign it out either.
"""

from typing import Any

from django.db.models import Q, QuerySet
from oauth2_provider.models import (
    get_access_token_model,
    get_device_grant_model,
    get_grant_model,
    get_id_token_model,
    get_refresh_token_model,
)

from project.accounts.models import User
from project.accounts.rights import bounds, within
from project.clients.models import Client
from project.identity.models import ApiKey, ExternalIdentity
from project.identity.scopes import DESCRIPTIONS, held_by


@bounds(Client)
def _clients(editor: User, clients: QuerySet[Client]) -> QuerySet[Client]:
    # No permission corresponds to introspection, and nobody holds a scope that no longer exists.
    held = set(held_by(editor, DESCRIPTIONS))
    may_introspect = clients.filter(may_introspect=True).values("pk")
    beyond = [client.pk for client in clients if not held.issuperset(client.scopes)]
    return clients.exclude(pk__in=beyond).exclude(pk__in=may_introspect)


@bounds(ApiKey)
def _api_keys(editor: User, keys: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
    return keys.filter(owner__in=_accounts(editor))


@bounds(ExternalIdentity, get_access_token_model(), get_refresh_token_model(), get_grant_model(), get_id_token_model())
def _of_a_user(editor: User, rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows.filter(user__in=_accounts(editor))


@bounds(get_device_grant_model())
def _device_grants(editor: User, grants: QuerySet[Any]) -> QuerySet[Any]:
    return grants.filter(Q(user=None) | Q(user__in=_accounts(editor)))  # A waiting device has no user yet.


def _accounts(editor: User) -> QuerySet[User]:
    return within(editor, User.objects.all())
