"""oauthlib's server and the toolkit's way to it, without what this issuer does not offer."""

from typing import Any

from django.http import HttpRequest
from oauth2_provider.oauth2_backends import OAuthLibCore
from oauthlib.common import Request as OAuthRequest
from oauthlib.openid import Server as OpenIdServer

from project.clients.models import Client


class Server(OpenIdServer):
    """Codes, client credentials, devices and refreshes; no implicit, hybrid or password grant (RFC 9700, section 2)."""

    def __init__(self, request_validator: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(request_validator, *args, **kwargs)
        del self.grant_types["password"]
        for response_type in set(self.response_types) - {"code"}:
            del self.response_types[response_type]


class Backend(OAuthLibCore):
    """The toolkit's adapter between Django's requests and oauthlib's."""

    def extract_headers(self, request: HttpRequest) -> dict[str, Any]:
        """A charset after the media type is nothing that oauthlib's device endpoint would know; it is UTF-8 anyway."""
        headers: dict[str, Any] = super().extract_headers(request)
        return {**headers, "Content-Type": request.content_type}

    def authenticated_client(self, request: HttpRequest) -> Client | None:
        """The confidential client that has shown its secret, by either way of RFC 6749, section 2.3.1."""
        uri, http_method, body, headers = self._extract_params(request)
        oauth_request = OAuthRequest(uri, http_method, body, headers)
        if not self.server.request_validator.authenticate_client(oauth_request):
            return None
        client: Client = oauth_request.client
        return client if client.client_type == Client.CLIENT_CONFIDENTIAL else None
