"""API keys for scripts: made here, verified by the API (``Authorization: Bearer tdm_...``)."""

import hashlib
import secrets

from project.config import API_KEY_PREFIX
from project.identity.models import ApiKey

RANDOM_BYTES = 32
SHOWN_LENGTH = len(API_KEY_PREFIX) + 6
"""Characters of a key that are kept to tell it from others; what is left has more than 200 random bits."""


def new_key() -> str:
    """A key that nobody has seen yet."""
    return API_KEY_PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def hash_of(key: str) -> str:
    """What is kept of a key, and looked up: its SHA-256 in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def keep(record: ApiKey, key: str) -> None:
    """Save ``record`` as the one of ``key``."""
    record.prefix, record.hash = key[:SHOWN_LENGTH], hash_of(key)
    record.save()
