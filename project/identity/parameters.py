"""The parameters of requests to OAuth endpoints: read as UTF-8, without empty ones, and with repeated ones found."""

import base64
import binascii
from typing import Any
from urllib.parse import unquote_plus, unquote_to_bytes, urlencode

from django.http import HttpRequest, QueryDict

OF_OAUTHLIB = frozenset(
    {
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "code_challenge",
        "code_challenge_method",
        "nonce",
        "prompt",
        "resource",
    }
)
"""What oauthlib reads of an authorization request."""
AUTHORIZATION = OF_OAUTHLIB | frozenset(
    {
        "response_mode",
        "display",
        "max_age",
        "ui_locales",
        "claims_locales",
        "id_token_hint",
        "login_hint",
        "acr_values",
        "claims",
        "request",
        "request_uri",
        "registration",
    }
)
"""All parameters of an authorization request: the view checks the others, or ignores them."""
TOKEN = frozenset(
    {
        "grant_type",
        "code",
        "redirect_uri",
        "code_verifier",
        "refresh_token",
        "device_code",
        "scope",
        "client_id",
        "client_secret",
        "resource",
        "token",
        "token_type_hint",
        "access_token",
    }
)
"""The parameters of requests to the endpoints that programs post to."""
LOGOUT = frozenset({"id_token_hint", "logout_hint", "client_id", "post_logout_redirect_uri", "state", "ui_locales"})
KNOWN = AUTHORIZATION | TOKEN | LOGOUT
"""Any other parameter is ignored (RFC 6749, sections 3.1 and 3.2)."""
REPEATABLE = frozenset({"resource"})
"""RFC 8707, section 2."""
PROMPTS = ["none", "login", "consent", "select_account"]
"""The values of ``prompt`` (OpenID Connect Core 1.0, section 3.1.2.1)."""

FORM = "application/x-www-form-urlencoded"


def unreadable(request: HttpRequest) -> str:
    """Says what is wrong with the text of a request; empty when nothing is."""
    encoded = [request.META.get("QUERY_STRING", ""), request.body if request.content_type == FORM else ""]
    try:
        for text in encoded:
            unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return "A parameter is not UTF-8."
    if any("\x00" in text for text in [*_values(request.GET), *_values(request.POST)]):
        return "A parameter has a NUL character."
    return ""


def omit_empty(request: HttpRequest) -> None:
    """Removes parameters without a value from a request: they count as omitted (RFC 6749, section 3.1)."""
    request.GET = _without_empty(request.GET)
    request.POST = _without_empty(request.POST)


def repeated(names: frozenset[str], parameters: QueryDict) -> list[str]:
    """Returns those of ``names`` that came more than once, which they must not (RFC 6749, section 3.1)."""
    return [name for name in sorted(names - REPEATABLE) if len(parameters.getlist(name)) > 1]


def only(names: frozenset[str], parameters: QueryDict) -> list[tuple[str, str]]:
    """Returns the pairs of the parameters that have one of these names."""
    return [(name, value) for name, values in parameters.lists() if name in names for value in values]


def with_parameters(address: str, parameters: dict[str, str]) -> str:
    """Appends parameters to the query of an address, which stays as it is, byte for byte (RFC 6749, section 3.1.2)."""
    if not parameters:
        return address
    separator = "" if address.endswith(("?", "&")) else "&" if "?" in address else "?"
    return f"{address}{separator}{urlencode(parameters)}"


class BadCredentialsError(Exception):
    """An ``Authorization`` header of the scheme Basic that holds no client id and secret."""


class TwoMethodsError(Exception):
    """A client that authenticates in the header and in the body at once (RFC 6749, section 2.3)."""


def move_credentials_into_body(request: HttpRequest) -> None:
    """Reads a client's id and secret from the scheme Basic, as if the body had them (RFC 6749, section 2.3.1).

    Raises:
        BadCredentialsError: the header is malformed.
        TwoMethodsError: the body has a secret too, or the id of another client.
    """
    scheme, _, encoded = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "basic":
        return
    client_id, client_secret = _decoded(encoded.strip(" "))
    body: Any = request.POST.copy()
    if "client_secret" in body or body.get("client_id", client_id) != client_id:
        raise TwoMethodsError
    body["client_id"] = client_id
    if client_secret:
        body["client_secret"] = client_secret
    request.POST = body


def _decoded(encoded: str) -> tuple[str, str]:
    try:
        pair = base64.b64decode(encoded, validate=True).decode()
        client_id, colon, client_secret = pair.partition(":")
        client_id, client_secret = (unquote_plus(part, errors="strict") for part in (client_id, client_secret))
    except (binascii.Error, ValueError) as error:
        raise BadCredentialsError from error
    if not client_id or not colon or "\x00" in client_id + client_secret:
        raise BadCredentialsError
    return client_id, client_secret


def _values(parameters: QueryDict) -> list[str]:
    return [value for _name, values in parameters.lists() for value in values]


def _without_empty(parameters: QueryDict) -> Any:
    kept = QueryDict(mutable=True)
    for name, values in parameters.lists():
        if given := [value for value in values if value]:
            kept.setlist(name, given)
    return kept
