"""Clients that register themselves: which of their metadata are believed, and how many such clients are kept.

Both ways in, dynamic registration (RFC 7591) and client ID metadata documents, read the same metadata and end here.
Such a client is a stranger: it can have people log in, with their consent and with PKCE, and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils import timezone
from oauth2_provider.models import get_grant_model, get_refresh_token_model

from project.clients.models import Client
from project.config import config, is_loopback, is_uri_text

MOST_REDIRECT_URIS = 10
MAXIMUM_URI_LENGTH = 500
"""Characters of a redirect URI."""
MAXIMUM_NAME_LENGTH = 60
"""Characters: what a consent page shows on one line."""
NEW_CLIENT_S = 60 * 60
"""How long a new client is safe from making room for others: its user may be signing in at this moment."""


class InvalidMetadata(Exception):
    """The metadata are refused; ``error`` is a code of RFC 7591, section 3.2.2."""

    def __init__(self, description: str, error: str = "invalid_client_metadata") -> None:
        super().__init__(description)
        self.error = error


class TooManyClients(Exception):
    """As many clients as may be have registered themselves, and each of them is in use or new."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is believed of a client's metadata (RFC 7591, section 2). Every other member is ignored, as it says."""

    name: str
    redirect_uris: tuple[str, ...]
    is_public: bool
    authentication: str
    scopes: tuple[str, ...]

    def write_to(self, client: Client) -> None:
        """Write the metadata to ``client``, which is not saved.

        Raises:
            InvalidMetadata: the client breaks a rule that holds for every client.
        """
        client.name = self.name
        client.redirect_uris = " ".join(self.redirect_uris)
        client.client_type = Client.CLIENT_PUBLIC if self.is_public else Client.CLIENT_CONFIDENTIAL
        client.authorization_grant_type = Client.GRANT_AUTHORIZATION_CODE
        client.allowed_scopes = " ".join(self.scopes)
        try:
            client.full_clean(exclude=["client_secret"], validate_unique=False)
        except ValidationError as error:
            raise InvalidMetadata(" ".join(error.messages)) from None


def read_metadata(document: Any, offered_scopes: list[str]) -> Metadata:
    """Returns what is believed of ``document``, whose author may be anybody.

    Raises:
        InvalidMetadata: a member has a value that this service does not offer.
    """
    if not isinstance(document, Mapping):
        raise InvalidMetadata("The metadata are a JSON object.")
    _demand_only(document, "grant_types", ["authorization_code"], {"authorization_code", "refresh_token"})
    _demand_only(document, "response_types", ["code"], {"code"})
    authentication = document.get("token_endpoint_auth_method", "client_secret_basic")
    if authentication not in ("none", "client_secret_basic", "client_secret_post"):
        raise InvalidMetadata("token_endpoint_auth_method is none, client_secret_basic or client_secret_post.")
    return Metadata(
        name=_name(document.get("client_name", "")),
        redirect_uris=_redirect_uris(document.get("redirect_uris")),
        is_public=authentication == "none",
        authentication=authentication,
        scopes=_scopes(document.get("scope"), offered_scopes),
    )


def _demand_only(document: Mapping[str, Any], member: str, default: list[str], offered: set[str]) -> None:
    """Refuse a list that names something not offered, or lacks the default, which is all that is useful here."""
    values = document.get(member, default)
    if not isinstance(values, list) or not all(value in offered for value in values if isinstance(value, str)):
        raise InvalidMetadata(f"{member} offered: {', '.join(sorted(offered))}.")
    if not all(isinstance(value, str) for value in values) or default[0] not in values:
        raise InvalidMetadata(f"{member} contains {default[0]}.")


def _name(name: Any) -> str:
    if not isinstance(name, str) or len(name) > MAXIMUM_NAME_LENGTH or not name.isprintable():
        raise InvalidMetadata(f"client_name is a printable text of {MAXIMUM_NAME_LENGTH} characters at most.")
    return name.strip()


def _redirect_uris(uris: Any) -> tuple[str, ...]:
    if not isinstance(uris, list) or not 1 <= len(uris) <= MOST_REDIRECT_URIS:
        raise InvalidMetadata(f"redirect_uris has 1 to {MOST_REDIRECT_URIS} addresses.", "invalid_redirect_uri")
    if not all(isinstance(uri, str) and _may_be_sent_to(uri) for uri in uris):
        raise InvalidMetadata(
            "A redirect URI is an https address, or http on 127.0.0.1, ::1 or localhost, without a fragment.",
            "invalid_redirect_uri",
        )
    return tuple(dict.fromkeys(uris))


def _may_be_sent_to(uri: str) -> bool:
    """Whether a code may go there; a private-use scheme is refused, because any app can claim it (RFC 8252, 8.4)."""
    if len(uri) > MAXIMUM_URI_LENGTH or not is_uri_text(uri):
        return False
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return False
    if "#" in uri or "@" in parts.netloc or not parts.hostname:
        return False
    return parts.scheme == "https" or is_loopback(uri)


def _scopes(asked: Any, offered: list[str]) -> tuple[str, ...]:
    if asked is None or asked == "":
        return tuple(offered)
    if not isinstance(asked, str):
        raise InvalidMetadata("scope is a text, with spaces between the scopes.")
    granted = tuple(scope for scope in offered if scope in asked.split())
    if not granted:
        raise InvalidMetadata("A client that registers itself can ask for none of these scopes.")
    return granted


def offered_scopes(every: list[str]) -> list[str]:
    """Returns those of ``every`` scope that a client which registered itself may ask for."""
    allowed = config.registered_client_scopes or every
    return [scope for scope in every if scope in allowed]


def make_room() -> None:
    """Delete the oldest unused clients that registered themselves, so that one more fits in.

    Two requests at the same moment may both find the last place free: the bound is for the disk, and holds about.

    Raises:
        TooManyClients: each of them is in use, or new.
    """
    surplus = _self_registered().count() - config.most_registered_clients + 1
    if surplus <= 0:
        return
    unused = list(_unused_for(NEW_CLIENT_S).order_by("created").values_list("pk", flat=True)[:surplus])
    if len(unused) < surplus:
        raise TooManyClients
    Client.objects.filter(pk__in=unused).delete()


def delete_unused(seconds: float) -> int:
    """Delete the clients that registered themselves and had no log-in for so long; returns how many there were."""
    _, deleted = _unused_for(seconds).delete()
    return deleted.get(Client._meta.label, 0)


def _self_registered() -> QuerySet[Client]:
    return Client.objects.exclude(registration_source=Client.RegistrationSource.MANUAL)


def _unused_for(seconds: float) -> QuerySet[Client]:
    """Clients without a code or refresh token; an administrator's stop is kept, because it keeps a document out."""
    return (
        _self_registered()
        .filter(is_active=True, created__lt=timezone.now() - timedelta(seconds=seconds))
        .exclude(pk__in=get_refresh_token_model().objects.values("application_id"))
        .exclude(pk__in=get_grant_model().objects.values("application_id"))
    )
