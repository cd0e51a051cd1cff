"""Dynamic client registration (RFC 7591), and its management by the client itself (RFC 7592). Off by default.

The toolkit's own views do not fit: they want a user for every client, offer every grant type, put no bound on what is
sent or kept, and recurse into any JSON (docs/decisions/0022-registration.md).
"""

import hashlib
import json
import secrets
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from limits import parse
from oauth2_provider.utils import parse_bearer_token

from project.clients.models import Client
from project.clients.registration import (
    InvalidMetadata,
    Metadata,
    TooManyClients,
    make_room,
    offered_scopes,
    read_metadata,
)
from project.config import config
from project.identity.limits import Limit, limiter, network
from project.identity.scopes import DESCRIPTIONS
from project.identity.views import Endpoint, refusal

MAXIMUM_BODY_BYTES = 10_000
"""Of a registration: ten redirect URIs of the longest, and what else clients tell."""
TOO_MANY_RETRY_S = 60 * 60
MANAGED = Limit("registration managed from", parse("60/hour"), network)
"""A change may write a revocation event, which every process reads."""


class ClientMetadataEndpoint(Endpoint):
    """Reads the client metadata in a request, and tells refusals as RFC 7591, section 3.2.2, has them."""

    @method_decorator(csrf_exempt)  # It knows no session, so there is nothing to forge.
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not config.client_registration:
            return refusal("not_found", "Clients do not register themselves here.", 404)
        try:
            return super().dispatch(request, *args, **kwargs)
        except InvalidMetadata as invalid:
            return refusal(invalid.error, str(invalid))
        except TooManyClients:
            busy = refusal("temporarily_unavailable", "Too many clients have registered. Try again later.", 503)
            busy["Retry-After"] = str(TOO_MANY_RETRY_S)
            return busy

    def read_document(self, request: HttpRequest) -> dict[str, Any]:
        """Returns the JSON object in the body.

        Raises:
            InvalidMetadata: the body is too large, or is no JSON object.
        """
        if request.content_type != "application/json":
            raise InvalidMetadata("Send application/json.")
        if len(request.body) > MAXIMUM_BODY_BYTES:
            raise InvalidMetadata(f"The metadata have {MAXIMUM_BODY_BYTES} bytes at most.")
        try:
            document = json.loads(request.body)
        except (ValueError, RecursionError):
            raise InvalidMetadata("The body is not JSON.") from None
        if not isinstance(document, dict):
            raise InvalidMetadata("The metadata are a JSON object.")
        return document


class RegistrationView(ClientMetadataEndpoint):
    """Registers a client (RFC 7591, section 3). A confidential one's secret is in this answer and nowhere else."""

    http_method_names = ["post", "options"]  # noqa: RUF012  Django's attribute.

    def post(self, request: HttpRequest) -> HttpResponse:
        metadata = read_metadata(self.read_document(request), offered_scopes(list(DESCRIPTIONS)))
        secret = secrets.token_urlsafe(32)  # A public client has one as well, which nobody knows.
        client = Client(
            client_secret=secret,
            registration_source=Client.RegistrationSource.DCR,
            registered_from=network(request),
        )
        metadata.write_to(client)
        token = _give_token(client)
        with transaction.atomic():
            make_room()
            client.save()
        shown = {} if metadata.is_public else {"client_secret": secret, "client_secret_expires_at": 0}
        return _described(client, metadata, token, shown, status=201)


class ConfigurationView(ClientMetadataEndpoint):
    """Lets a client read, replace and delete its registration, with the token that it was given (RFC 7592)."""

    http_method_names = ["get", "put", "delete", "options"]  # noqa: RUF012  Django's attribute.

    @method_decorator(csrf_exempt)  # Django looks at the outermost method alone.
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not limiter().count(MANAGED, network(request)):
            busy = refusal("temporarily_unavailable", "Too many requests. Try again later.", 429)
            busy["Retry-After"] = str(MANAGED.rate.get_expiry())
            return busy
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest, client_id: str) -> HttpResponseBase:
        client, token = _authenticated(request, client_id)
        return _unknown() if client is None else _described(client, _metadata_of(client), token, {})

    def put(self, request: HttpRequest, client_id: str) -> HttpResponseBase:
        document = self.read_document(request)
        with transaction.atomic():
            client, _token = _authenticated(request, client_id)
            if client is None:
                return _unknown()
            metadata = read_metadata(document, offered_scopes(list(DESCRIPTIONS)))
            if document.get("client_id", client_id) != client_id:
                raise InvalidMetadata("client_id cannot be changed.")
            if metadata.is_public != (client.client_type == Client.CLIENT_PUBLIC):
                raise InvalidMetadata("token_endpoint_auth_method cannot be changed: register anew.")
            metadata.write_to(client)
            token = _give_token(client)
            client.save()  # The database ends the client's tokens when its scopes change (project.identity.triggers).
        return _described(client, metadata, token, {})

    def delete(self, request: HttpRequest, client_id: str) -> HttpResponseBase:
        with transaction.atomic():
            client, _token = _authenticated(request, client_id)
            if client is None:
                return _unknown()
            client.delete()  # The database ends its tokens, as above.
        return HttpResponse(status=204, headers={"Cache-Control": "no-store"})


def _give_token(client: Client) -> str:
    """Give ``client`` a new registration access token, of which only the hash is kept."""
    token = secrets.token_urlsafe(32)
    client.registration_token_hash = _hash(token)
    return token


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _authenticated(request: HttpRequest, client_id: str) -> tuple[Client | None, str]:
    """The client whose token was shown, and the token; a client that was stopped is unknown."""
    token = parse_bearer_token(request.headers.get("Authorization", "")) or ""
    registered = Client.objects.filter(registration_source=Client.RegistrationSource.DCR, is_active=True)
    client = registered.filter(client_id=client_id).first() if client_id.isprintable() else None
    if client is None or not constant_time_compare(client.registration_token_hash, _hash(token)):
        return None, token
    return client, token


def _unknown() -> JsonResponse:
    """The same for a wrong token and for no such client (RFC 7592, section 2.1)."""
    answer = refusal("invalid_token", "Show the registration access token of this client.", 401)
    answer["WWW-Authenticate"] = 'Bearer realm="tandem", error="invalid_token"'
    return answer


def _metadata_of(client: Client) -> Metadata:
    is_public = client.client_type == Client.CLIENT_PUBLIC
    return Metadata(
        name=client.name,
        redirect_uris=tuple(client.redirect_uris.split()),
        is_public=is_public,
        authentication="none" if is_public else "client_secret_basic",
        scopes=tuple(client.scopes),
    )


def _described(
    client: Client, metadata: Metadata, token: str, secret: dict[str, Any], *, status: int = 200
) -> JsonResponse:
    """Client information (RFC 7591, section 3.2.1; RFC 7592, section 3)."""
    manage = reverse("identity:registered-client", kwargs={"client_id": client.client_id})
    information = {
        "client_id": client.client_id,
        "client_id_issued_at": int(client.created.timestamp()),
        **secret,
        "client_name": metadata.name,
        "redirect_uris": list(metadata.redirect_uris),
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": metadata.authentication,
        "scope": " ".join(metadata.scopes),
        "registration_access_token": token,
        "registration_client_uri": config.base_url + manage,
    }
    return JsonResponse(information, status=status, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})
