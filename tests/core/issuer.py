"""An issuer of the tests' own: keys, tokens, and the documents that it publishes, counted."""

import base64
import json
import time
from typing import Any

import httpx2
from joserfc import jwt
from joserfc.jwk import Key, KeySet, RSAKey

from fastapi_app.core.jwks import IssuerKeys
from project.config import TrustedIssuer

ISSUER = "https://issuer.example"
AUDIENCE = "the-api"
KEY = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
OTHER_KEY = RSAKey.generate_key(2048, auto_kid=True)
TRUSTED = TrustedIssuer(issuer=ISSUER, audiences=(AUDIENCE,), jwks_uri=f"{ISSUER}/jwks")

type Changes = dict[str, Any]


class Publisher:
    """What answers at the issuer's address."""

    def __init__(self, *keys: Key) -> None:
        self.keys: tuple[Key, ...] = keys or (KEY,)
        self.documents: dict[str, Any] = {}
        self.fetches: list[str] = []
        self.is_down = False

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.fetches.append(request.url.path)
        if self.is_down:
            raise httpx2.ConnectError("nobody listens")
        jwks = KeySet(list(self.keys)).as_dict(private=False)
        documents = {"/jwks": jwks, **self.documents}
        return httpx2.Response(200, json=documents[request.url.path])

    def issuer_keys(self, jwks_uri: str | None = f"{ISSUER}/jwks") -> IssuerKeys:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self.answer))
        return IssuerKeys(ISSUER, jwks_uri, http)


def claims(**changes: Any) -> dict[str, Any]:
    """Those of a good token of user 7, with changes; None takes a claim away."""
    now = int(time.time())
    good = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "7", "client_id": "c", "iat": now, "exp": now + 60, "jti": "j",
        "scope": "a b", "token_version": 0,
    }  # fmt: skip
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def token(header: Changes | None = None, key: Key = KEY, algorithm: str = "RS256", **changes: Any) -> str:
    head = {"alg": algorithm, "typ": "at+jwt", "kid": KEY.kid, **(header or {})}
    return jwt.encode(head, claims(**changes), key, algorithms=[algorithm])


def by_hand(header: Changes, payload: object, signature: str = "") -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, payload))
    return ".".join([*parts, signature])
