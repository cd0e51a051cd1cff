"""Ends tokens before they expire: each function writes the event that every process polls, in the caller's transaction.

What changes a user (password, activity, superuser, groups, permissions) needs no call: the database itself notices,
whoever writes (project.identity.triggers).
"""

import uuid
from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from oauth2_provider.models import get_access_token_model, get_grant_model, get_refresh_token_model

from project.accounts.models import User
from project.clients.models import Client
from project.identity.models import ApiKey, RevocationEvent

Kind = RevocationEvent.Kind
KEPT_DAYS = 90
"""Events are needed for MAX_TOKEN_TTL_S, a day and 30 at most; they are kept longer for whoever asks what happened."""


def end_token(jti: str, *, reason: str) -> None:
    """Refuse one access token from now on."""
    RevocationEvent.objects.create(kind=Kind.TOKEN, subject=jti, reason=reason)


def end_family(family: uuid.UUID | str, *, reason: str) -> None:
    """End one log-in: its refresh tokens can be exchanged no more, its access tokens are refused."""
    with transaction.atomic():
        get_refresh_token_model().revoke_family(uuid.UUID(str(family)))
        RevocationEvent.objects.create(kind=Kind.FAMILY, subject=str(family), reason=reason)


def has_ended(family: uuid.UUID | str) -> bool:
    """Whether a log-in was ended: a code or refresh token of it that was in flight just then must give nothing."""
    return RevocationEvent.objects.filter(kind=Kind.FAMILY, subject=str(family)).exists()


def end_user(user: User) -> None:
    """End everything that acts for ``user``: access tokens, refresh tokens, and codes that wait to be exchanged."""
    with transaction.atomic():
        User.objects.filter(pk=user.pk).update(token_version=F("token_version") + 1)
        get_grant_model().objects.filter(user=user).delete()
        get_refresh_token_model().objects.filter(user=user, revoked=None).update(revoked=timezone.now())


def end_client(client: Client, *, reason: str, with_log_ins: bool) -> None:
    """Refuse the access tokens that ``client`` has now, and with ``with_log_ins`` let it refresh none of them."""
    with transaction.atomic():
        RevocationEvent.objects.create(kind=Kind.CLIENT, subject=client.client_id, reason=reason)
        if with_log_ins:
            get_grant_model().objects.filter(application=client).delete()
            get_refresh_token_model().objects.filter(application=client, revoked=None).update(revoked=timezone.now())
            get_access_token_model().objects.filter(application=client).delete()


def end_api_key(key: ApiKey, *, reason: str) -> None:
    """Refuse an API key from now on."""
    with transaction.atomic():
        ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
        RevocationEvent.objects.create(kind=Kind.KEY, subject=str(key.pk), reason=reason)


def end_signing_key(kid: str, *, reason: str) -> None:
    """Refuse every token that this key has signed, before verifiers read anew which keys there are."""
    RevocationEvent.objects.create(kind=Kind.SIGNER, subject=kid, reason=reason)


def forget_old_events() -> int:
    """Delete the events that are of no more use; how many they were."""
    count, _ = RevocationEvent.objects.filter(created_at__lt=timezone.now() - timedelta(days=KEPT_DAYS)).delete()
    return count
