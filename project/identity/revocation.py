"""Ends tokens before they expire: each function writes the event that every process polls, in the caller's transaction.

What changes a user (password, activity, superuser, groups, permissions) or a client (activity, scopes) needs no call:
the database itself notices it, whichever program writes (project.identity.triggers).

What is ended already is not ended again: a caller who repeats a request must not fill the table that every process
polls. No function compares a moment of this process's clock with one of the database's.
"""

import uuid
from datetime import timedelta

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from oauth2_provider.models import get_access_token_model, get_grant_model, get_refresh_token_model

from project.accounts.models import User
from project.clients.models import Client
from project.identity.models import ApiKey, RevocationEvent

Kind = RevocationEvent.Kind
KEPT_DAYS = 90
"""Events are needed for MAX_TOKEN_TTL_S, a day and 30 at most; they are kept longer for whoever asks what happened."""


def end_token(jti: str, *, reason: str) -> None:
    """Refuse one access token from now on."""
    _write_once(Kind.TOKEN, jti, reason)


def end_family(family: uuid.UUID | str, *, reason: str) -> None:
    """End one log-in: its refresh tokens can be exchanged no more, its access tokens are refused."""
    with transaction.atomic():
        get_refresh_token_model().revoke_family(uuid.UUID(str(family)))
        _write_once(Kind.FAMILY, str(family), reason)


def end_replayed(family: uuid.UUID, *, reason: str) -> None:
    """End the log-in that a code began which is not known any more, if the code was ever issued and exchanged.

    A made-up code began none, and writes nothing.
    """
    if get_refresh_token_model().objects.filter(token_family=family).exists():
        end_family(family, reason=reason)


def has_ended(family: uuid.UUID | str) -> bool:
    """Whether a log-in was ended: a code or refresh token of it that was in flight just then must give nothing."""
    return _is_written(Kind.FAMILY, str(family))


def end_user(user: User) -> None:
    """End everything that acts for ``user``: access tokens, refresh tokens, and codes that wait to be exchanged."""
    with transaction.atomic():
        User.objects.filter(pk=user.pk).update(token_version=F("token_version") + 1)
        get_grant_model().objects.filter(user=user).delete()
        get_refresh_token_model().objects.filter(user=user, revoked=None).update(revoked=Now())


def end_client(client: Client, *, reason: str, with_log_ins: bool) -> None:
    """Refuse the access tokens that ``client`` has now; ``with_log_ins`` ends its refresh tokens and codes too."""
    with transaction.atomic():
        stored = Client.objects.filter(pk=client.pk)
        stored.update(token_version=F("token_version") + 1)
        events = RevocationEvent.objects.filter(kind=Kind.CLIENT, subject=client.client_id)
        events.filter(version__in=stored.values("token_version")).update(reason=reason)
        if with_log_ins:
            get_grant_model().objects.filter(application=client).delete()
            get_refresh_token_model().objects.filter(application=client, revoked=None).update(revoked=Now())
            get_access_token_model().objects.filter(application=client).delete()


def end_api_key(key: ApiKey, *, reason: str) -> None:
    """Refuse an API key from now on."""
    with transaction.atomic():
        ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=Now())
        _write_once(Kind.KEY, str(key.pk), reason)


def end_signing_key(kid: str, *, reason: str) -> None:
    """Refuse every token that this key has signed, before verifiers read anew which keys there are."""
    _write_once(Kind.SIGNER, kid, reason)


def client_has_ended(client_id: str, version: int) -> bool:
    """Whether the tokens of a client with this ``token_version``, or a lower one, were ended.

    Events of earlier releases have no version. The tokens of that time have none either: theirs counts as 0.
    """
    events = RevocationEvent.objects.filter(kind=Kind.CLIENT, subject=client_id)
    is_ended = Q(version__gt=version)
    return events.filter(is_ended | Q(version=None) if version < 1 else is_ended).exists()


def _write_once(kind: str, subject: str, reason: str) -> None:
    if not _is_written(kind, subject):
        RevocationEvent.objects.create(kind=kind, subject=subject, reason=reason)


def _is_written(kind: str, subject: str) -> bool:
    return RevocationEvent.objects.filter(kind=kind, subject=subject).exists()


def forget_old_events() -> int:
    """Delete the events that end nothing any more; returns their number."""
    count, _ = RevocationEvent.objects.filter(created_at__lt=Now() - timedelta(days=KEPT_DAYS)).delete()
    return count
