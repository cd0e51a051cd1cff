"""What every peer is given alike: addresses, keys, the page's limits and its cursor."""

import base64
import json
import os
from functools import cache
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

DATABASE_URL = os.environ["BENCH_DATABASE_URL"]
POOL_SIZE = int(os.environ["BENCH_POOL_SIZE"])
ISSUER = os.environ["BENCH_ISSUER"]
AUDIENCE = os.environ["BENCH_AUDIENCE"]
ALGORITHM = "RS256"
READ = "users:read"
WRITE = "users:write"

DEFAULT_LIMIT = 50
MAXIMUM_LIMIT = 200
EMAIL_PATTERN = r"^[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}$"
"""For the frameworks that check an e-mail address with a pattern and not with a library."""


@cache
def public_key() -> RSAPublicKey:
    """The key that the tokens are signed with, from the JWK Set that the product's issuer wrote."""
    keys = json.loads(Path(os.environ["BENCH_JWKS_FILE"]).read_bytes())["keys"]
    key = jwt.PyJWK(keys[0], ALGORITHM).key
    if not isinstance(key, RSAPublicKey):
        raise TypeError("the first key is no RSA key")
    return key


def public_pem() -> str:
    """The same key, for what takes it as a text."""
    return public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def encode_cursor(last_id: int) -> str:
    """The cursor that leads on from this id: unpadded, URL-safe base64 of its digits, unsigned."""
    return base64.urlsafe_b64encode(b"%d" % last_id).rstrip(b"=").decode()


def decode_cursor(cursor: str | None) -> int:
    """The id that a cursor stands for; 0, before the first, for none. Raises ValueError."""
    if cursor is None:
        return 0
    return int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
