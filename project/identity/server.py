"""oauthlib's server and the toolkit's way to it, without what this issuer does not offer."""

import json
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from django.http import HttpRequest
from oauth2_provider.oauth2_backends import OAuthLibCore
from oauthlib.common import Request as OAuthRequest
from oauthlib.oauth2.rfc8628.grant_types import DeviceCodeGrant
from oauthlib.openid import Server as OpenIdServer
from oauthlib.openid.connect.core.grant_types.base import OpenIDConnectBase

from project.clients.models import Client
from project.identity import parameters
from project.identity.parameters import with_parameters
from project.identity.tokens import DEVICE_CODE


class DeviceLogIn(DeviceCodeGrant):
    """Gives a device an ID token when its user allowed ``openid``, as oauthlib does when the device refreshes."""

    def create_token_response(self, request: OAuthRequest, token_handler: Any) -> tuple[dict[str, str], str, int]:
        headers, body, status = super().create_token_response(request, token_handler)
        if status == 200:  # noqa: PLR2004
            with_id_token = OpenIDConnectBase.add_id_token(self, json.loads(body), token_handler, request)
            body = json.dumps(with_id_token)
        return headers, body, status

    id_token_hash = OpenIDConnectBase.id_token_hash


class Server(OpenIdServer):
    """Codes, client credentials, devices and refreshes; no implicit, hybrid or password grant (RFC 9700, section 2)."""

    def __init__(self, request_validator: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(request_validator, *args, **kwargs)
        del self.grant_types["password"]
        self.grant_types[DEVICE_CODE] = DeviceLogIn(request_validator)
        for response_type in set(self.response_types) - {"code"}:
            del self.response_types[response_type]


class Backend(OAuthLibCore):
    """The toolkit's adapter between Django's requests and oauthlib's."""

    def _extract_params(self, request: HttpRequest) -> tuple[str, str, str, dict[str, Any]]:
        """Give oauthlib the parameters that it knows, and no others: it takes each for an attribute of its request."""
        query = urlencode(parameters.only(parameters.OF_OAUTHLIB, request.GET))
        body = urlencode(parameters.only(parameters.TOKEN, request.POST))
        uri = f"{request.path}?{query}" if query else request.path
        return uri, str(request.method), body, self.extract_headers(request)

    def create_authorization_response(
        self, request: HttpRequest, scopes: list[str], credentials: dict[str, Any], allow: bool
    ) -> Any:
        """The toolkit's, its address put together anew: the client's own query stays byte for byte as it was."""
        uri, *rest = super().create_authorization_response(request, scopes, credentials, allow)
        redirect_uri = credentials["redirect_uri"]
        own = [name for name, _ in _pairs(redirect_uri) if name != "iss"]  # The toolkit dropped that one.
        answer = dict(_pairs(uri)[len(own) :])
        answer.pop("iss", None)  # The view adds it to every answer.
        return (with_parameters(redirect_uri, answer), *rest)

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


def _pairs(address: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(address).query, keep_blank_values=True)
