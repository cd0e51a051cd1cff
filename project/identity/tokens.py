"""Access tokens: JWTs in the profile of RFC 9068, signed by Django, verified by the API without asking Django."""

import re
import secrets
import time
from collections.abc import Iterable

from joserfc import jwt

from project.accounts.models import User
from project.config import Config
from project.identity.keys import ALGORITHM, signing_key

is_scope = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+", re.ASCII).fullmatch
"""Whether a text is a scope-token of RFC 6749, section 3.3."""


def issue_access_token(user: User, scopes: Iterable[str], *, ttl_s: int, client_id: str, config: Config) -> str:
    """Sign an access token with which ``client_id`` acts for ``user`` for ``ttl_s`` seconds."""
    key = signing_key(config)
    now = int(time.time())
    claims = {
        "iss": config.base_url,
        "aud": config.api_audience,
        "sub": str(user.pk),
        "client_id": client_id,
        "iat": now,
        "exp": now + ttl_s,
        "jti": secrets.token_urlsafe(16),
        "scope": " ".join(scopes),
        "token_version": user.token_version,
    }
    return jwt.encode({"alg": ALGORITHM, "typ": "at+jwt", "kid": key.kid}, claims, key, algorithms=[ALGORITHM])
