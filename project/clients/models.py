"""An OAuth client: django-oauth-toolkit's application with the scopes that it may have."""

from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from django.core.exceptions import ValidationError
from django.db import models
from oauth2_provider.models import AbstractApplication

from project.config import is_loopback

GRANT_TYPES = {
    AbstractApplication.GRANT_AUTHORIZATION_CODE: "People log in (authorization code with PKCE)",
    AbstractApplication.GRANT_DEVICE_CODE: "People log in on a second device (device code)",
    AbstractApplication.GRANT_CLIENT_CREDENTIALS: "No people: it acts for itself (client credentials)",
}
"""No implicit grant and no password grant (RFC 9700, sections 2.1.2 and 2.4)."""


RESPONSE_PARAMETERS = frozenset({"code", "state", "iss", "error", "error_description", "error_uri"})
"""What an answer adds to the query of a redirect URI, where a client must find each once (RFC 6749, section 3.1)."""


class ClientManager(models.Manager["Client"]):
    """Finds clients by their public name."""

    def get_by_natural_key(self, client_id: str) -> "Client":
        return self.get(client_id=client_id)


class Client(AbstractApplication):
    """Who may ask for tokens, how, and for which scopes."""

    allowed_scopes = models.TextField(
        blank=True,
        default="",
        db_default="",
        help_text="Separated by spaces. One that acts for people may ask for these; a machine gets them.",
    )
    may_introspect = models.BooleanField(
        default=False, db_default=False, help_text="May ask whether a token is good (RFC 7662)."
    )
    is_active = models.BooleanField(
        "active", default=True, db_default=True, help_text="Clear this to stop it: it gets no more tokens."
    )
    token_version = models.BigIntegerField(
        default=1, db_default=1, editable=False, help_text="Raised by what ends this client's tokens."
    )

    registered_from = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text="The network of the program, or of the person, that brought a client which registered itself.",
    )
    registration_token_hash = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text="SHA-256 of the token with which the client changes its own registration (RFC 7592).",
    )

    user = None  # A client belongs to the site, and not to one person.

    objects: ClassVar[ClientManager] = ClientManager()

    class Meta(AbstractApplication.Meta):
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(authorization_grant_type__in=list(GRANT_TYPES)),
                name="clients_client_grant_type_is_offered",
                violation_error_message="This grant type is not offered.",
            ),
            models.CheckConstraint(
                condition=models.Q(client_type="confidential")
                | (~models.Q(authorization_grant_type="client-credentials") & models.Q(may_introspect=False)),
                name="clients_client_public_has_no_rights",
                violation_error_message="A client without a secret can neither act for itself nor introspect tokens.",
            ),
            models.CheckConstraint(
                condition=models.Q(registration_source="manual")
                | (
                    models.Q(authorization_grant_type="authorization-code")
                    & models.Q(may_introspect=False)
                    & models.Q(skip_authorization=False)
                ),
                name="clients_client_self_registered_has_no_rights",
                violation_error_message="A client that registered itself can only have people log in.",
            ),
        ]

    def __str__(self) -> str:
        return str(self.name or self.client_id)

    @property
    def scopes(self) -> list[str]:
        """The scopes that it may have, in the order in which they were written."""
        return str(self.allowed_scopes).split()

    @property
    def registered_itself(self) -> bool:
        """Whether nobody of this site made it: its name and addresses are whatever it says of itself."""
        return bool(self.registration_source != self.RegistrationSource.MANUAL)

    @property
    def origin(self) -> str:
        """Where a client that registered itself came from: its document's host, or the network of its request."""
        if self.registration_source == self.RegistrationSource.CIMD:
            return urlsplit(self.client_id).netloc
        return str(self.registered_from)

    def is_usable(self, request: Any) -> bool:
        return bool(self.is_active)

    def redirect_uri_allowed(self, uri: str) -> bool:
        """Whether ``uri`` is, letter for letter, a registered one; on loopback any port is (RFC 8252, section 7.3)."""
        return _is_registered(uri, self.redirect_uris, super().redirect_uri_allowed)

    def post_logout_redirect_uri_allowed(self, uri: str) -> bool:
        return _is_registered(uri, self.post_logout_redirect_uris, super().post_logout_redirect_uri_allowed)

    def get_allowed_schemes(self) -> list[str]:
        return ["https", "http"]  # clean() lets plain HTTP through on loopback only.

    def clean(self) -> None:
        """Refuse addresses that a code, or a person, must not be sent to.

        Raises:
            ValidationError: with each field's reason.
        """
        super().clean()
        logs_people_in = self.authorization_grant_type == self.GRANT_AUTHORIZATION_CODE and not self.may_introspect
        if self.registered_itself and not logs_people_in:
            raise ValidationError("A client that registered itself can only have people log in.")
        for field in ("redirect_uris", "post_logout_redirect_uris"):
            for uri in getattr(self, field).split():
                if RESPONSE_PARAMETERS & parse_qs(urlsplit(uri).query, keep_blank_values=True).keys():
                    raise ValidationError({field: f"{uri}: its query has a name that answers use, such as state."})
                if urlsplit(uri).scheme != "https" and not is_loopback(uri):
                    raise ValidationError({field: f"{uri}: give an https address, or http on 127.0.0.1."})


def _is_registered(uri: str, registered: str, matches: Any) -> bool:
    try:
        return uri in registered.split() or (is_loopback(uri) and bool(matches(uri)))
    except ValueError:  # It is no address, such as "http://[".
        return False
