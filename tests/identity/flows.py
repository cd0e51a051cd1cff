"""What a client and its user's browser do, step by step, without a network."""

import base64
import hashlib
import html
import re
import secrets
from typing import Any, cast
from urllib.parse import parse_qs, urlencode, urlsplit

from django.http import HttpResponse
from django.test import Client as DjangoClient
from joserfc import jwt
from joserfc.jwk import KeySet

from project.clients.models import Client
from project.identity.keys import published

SECRET = "s" * 43
CALLBACK = "https://app.example.com/callback"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


class Verifier:
    """A PKCE pair (RFC 7636)."""

    def __init__(self) -> None:
        self.verifier = secrets.token_urlsafe(32)
        digest = hashlib.sha256(self.verifier.encode()).digest()
        self.challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Browser:
    """A person's browser: cookies, and forms with their CSRF tokens."""

    def __init__(self) -> None:
        self.http = DjangoClient(enforce_csrf_checks=True)

    def get(self, path: str, **query: str) -> HttpResponse:
        return cast("HttpResponse", self.http.get(path, query or None))

    def submit(self, path: str, /, page: Any = None, **fields: str) -> HttpResponse:
        """Open the form at ``path``, unless it is the ``page`` at hand, fill it in, send it."""
        page = page or self.get(path)
        return cast("HttpResponse", self.http.post(path, {**hidden_fields(page), **fields}))

    def log_in(self, email: str = "alice@example.com", password: str = "correct horse") -> HttpResponse:
        return self.submit("/accounts/login/", username=email, password=password)


def hidden_fields(page: HttpResponse) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.content.decode())
    return {name: html.unescape(value) for name, value in found}


def web_client(
    client_id: str = "web", scopes: str = "openid profile email users:read users:write", **fields: Any
) -> Client:
    """A public client whose users log in."""
    return Client.objects.create(
        client_id=client_id,
        name=f"The {client_id} app",
        allowed_scopes=scopes,
        **{
            "client_type": "public",
            "authorization_grant_type": "authorization-code",
            "redirect_uris": CALLBACK,
            **fields,
        },
    )


def machine_client(client_id: str = "machine", scopes: str = "users:read", **fields: Any) -> Client:
    """A confidential client that acts for itself."""
    return Client.objects.create(
        client_id=client_id,
        name=f"The {client_id}",
        client_secret=SECRET,
        allowed_scopes=scopes,
        **{"client_type": "confidential", "authorization_grant_type": "client-credentials", **fields},
    )


def authorize_path(client: Client, pkce: Verifier, **parameters: str) -> str:
    query = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": CALLBACK,
        "scope": "openid users:read",
        "state": "a-state",
        "code_challenge": pkce.challenge,
        "code_challenge_method": "S256",
        **parameters,
    }
    return f"/o/authorize/?{urlencode({name: value for name, value in query.items() if value})}"


def sent_back(answer: HttpResponse) -> dict[str, str]:
    """What the redirect to the client carries."""
    assert answer.status_code == 302, answer.content.decode()
    assert answer["Location"].startswith(f"{CALLBACK}?"), answer["Location"]
    parameters = parse_qs(urlsplit(answer["Location"]).query)
    assert all(len(values) == 1 for values in parameters.values()), "each once (RFC 6749, section 3.1)"
    return {name: values[0] for name, values in parameters.items()}


def get_code(browser: Browser, client: Client, pkce: Verifier, **parameters: str) -> str:
    """Allow ``client`` in ``browser``, which is logged in; the code that it gets."""
    return sent_back(browser.submit(authorize_path(client, pkce, **parameters), decision="allow"))["code"]


def post(path: str, **fields: str) -> Any:
    """What a program posts: no cookies, no CSRF token."""
    return DjangoClient(enforce_csrf_checks=True).post(path, urlencode(fields), "application/x-www-form-urlencoded")


def exchange(client: Client, code: str, pkce: Verifier, **fields: str) -> Any:
    return post(
        "/o/token/",
        **{
            "grant_type": "authorization_code",
            "client_id": client.client_id,
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": pkce.verifier,
            **fields,
        },
    )


def refresh(client: Client, refresh_token: str, **fields: str) -> Any:
    return post(
        "/o/token/", grant_type="refresh_token", client_id=client.client_id, refresh_token=refresh_token, **fields
    )


def log_in_at(client: Client, browser: Browser, **parameters: str) -> dict[str, Any]:
    """The whole code flow in a browser that is logged in; the token response."""
    pkce = Verifier()
    answer = exchange(client, get_code(browser, client, pkce, **parameters), pkce)
    assert answer.status_code == 200, answer.content
    tokens: dict[str, Any] = answer.json()
    return tokens


def claims(token: str) -> dict[str, Any]:
    """The claims of a token, its signature verified with the published keys."""
    decoded = jwt.decode(token, KeySet.import_key_set({"keys": published()}), algorithms=["RS256", "ES256"])
    return dict(decoded.claims)


def is_active(access_token: str) -> bool:
    """What introspection says of a token at this moment."""
    asker = Client.objects.filter(client_id="asker").first() or machine_client("asker", may_introspect=True)
    answer = post("/o/introspect/", token=access_token, client_id=asker.client_id, client_secret=SECRET)
    assert answer.status_code == 200, answer.content
    return bool(answer.json()["active"])
