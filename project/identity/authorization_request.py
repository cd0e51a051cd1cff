"""The faults of an authorization request that oauthlib does not find (OpenID Connect Core 1.0, section 3.1.2.1)."""

import json
import re
from typing import Any

from django.http import QueryDict
from oauthlib.oauth2.rfc6749.errors import InvalidRequestError, OAuth2Error
from oauthlib.openid.connect.core.exceptions import (
    RegistrationNotSupported,
    RequestNotSupported,
    RequestURINotSupported,
)

from project.identity import parameters
from project.identity.parameters import PROMPTS
from project.identity.tokens import ID_TOKEN_TYPE, claims_of

MAX_CLAIMS_CHARACTERS = 4096
"""Of the parameter ``claims``. Real ones have some hundred."""
MAX_NONCE_CHARACTERS = 255
"""So many are kept with a code."""
NOT_SUPPORTED = {
    "request": RequestNotSupported,
    "request_uri": RequestURINotSupported,
    "registration": RegistrationNotSupported,
}

is_challenge = re.compile(r"[A-Za-z0-9_-]{43}").fullmatch
"""Whether a text is a SHA-256 in base64url (RFC 7636, section 4.2)."""
is_max_age = re.compile(r"[0-9]{1,10}").fullmatch
"""Whether a text is a number of seconds."""


def prompts(query: QueryDict) -> set[str]:
    """Returns the values of the parameter ``prompt``."""
    return set(query.get("prompt", "").split())


def max_age_s(query: QueryDict) -> int | None:
    """Returns how many seconds ago the user may have signed in at most; None when any time will do."""
    max_age = query.get("max_age", "")
    return int(max_age) if is_max_age(max_age) else None


def fault(query: QueryDict) -> OAuth2Error | None:
    """Returns the error with which to refuse a request of a known client; None when the request is valid."""
    for name, error in NOT_SUPPORTED.items():
        if name in query:
            return error(f"The parameter {name} is not supported.")
    description = next((description for is_wrong, description in _rules(query) if is_wrong), None)
    return InvalidRequestError(description) if description else None


def _rules(query: QueryDict) -> list[tuple[bool, str]]:
    asked = prompts(query)
    return [
        (bool(parameters.repeated(parameters.AUTHORIZATION, query)), "A parameter came more than once."),
        (
            query.get("code_challenge_method") != "S256" or not is_challenge(query.get("code_challenge", "")),
            "Send a code_challenge, and S256 as its method.",
        ),
        (query.get("response_mode", "query") != "query", "The only response_mode is query."),
        (not asked <= set(PROMPTS), f"The values of prompt are {', '.join(PROMPTS)}."),
        ("none" in asked and len(asked) > 1, "The prompt none excludes other values."),
        ("max_age" in query and not is_max_age(query.get("max_age", "")), "max_age is a number of seconds."),
        (len(query.get("nonce", "")) > MAX_NONCE_CHARACTERS, f"nonce has {MAX_NONCE_CHARACTERS} characters at most."),
        (
            "claims" in query and not _is_claims_request(query.get("claims", "")),
            "claims is a JSON object (section 5.5).",
        ),
        (
            "id_token_hint" in query and claims_of(query.get("id_token_hint", ""), ID_TOKEN_TYPE) is None,
            "id_token_hint is no ID token of this issuer.",
        ),
    ]


def _is_claims_request(text: str) -> bool:
    """Whether ``text`` is well-formed. Nothing is taken from it: the scopes say which claims there are."""
    if len(text) > MAX_CLAIMS_CHARACTERS:
        return False
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(asked, dict) and all(
        _is_claims_of(asked[place]) for place in ("userinfo", "id_token") if place in asked
    )


def _is_claims_of(claims: Any) -> bool:
    return claims is None or (
        isinstance(claims, dict) and all(wish is None or isinstance(wish, dict) for wish in claims.values())
    )
