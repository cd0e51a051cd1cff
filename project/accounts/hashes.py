"""Password hashes that no configured hasher reads: brought from elsewhere, they let nobody in, and the log says why."""

import logging
from functools import lru_cache

from django.contrib.auth.hashers import identify_hasher, is_password_usable

logger = logging.getLogger(__name__)

MOST_REMEMBERED = 10_000
"""Users whose line is not written again; of more, the oldest."""

_DJANGO = "django.contrib.auth.hashers"
_HASHERS = {
    "pbkdf2_sha256": f"{_DJANGO}.PBKDF2PasswordHasher",
    "pbkdf2_sha1": f"{_DJANGO}.PBKDF2SHA1PasswordHasher",
    "argon2": "project.identity.hashers.BoundedArgon2PasswordHasher",
    "scrypt": f"{_DJANGO}.ScryptPasswordHasher",
    "bcrypt_sha256": f"{_DJANGO}.BCryptSHA256PasswordHasher",
    "bcrypt": f"{_DJANGO}.BCryptPasswordHasher",
    "md5": f"{_DJANGO}.MD5PasswordHasher",
}
"""What reads the hashes that Django writes, by algorithm."""
_PACKAGES = {"bcrypt_sha256": "bcrypt", "bcrypt": "bcrypt"}
"""What a hasher needs that is not installed."""
_OTHERS = {
    "$2a$": "bcrypt without Django's prefix",
    "$2b$": "bcrypt without Django's prefix",
    "$2y$": "bcrypt without Django's prefix",
    "$argon2": "argon2 without Django's prefix",
    "$1$": "md5crypt",
    "$5$": "sha256crypt",
    "$6$": "sha512crypt",
    "$y$": "yescrypt",
    "$P$": "phpass",
    "$H$": "phpass",
    "{SSHA}": "LDAP's SSHA",
    "sha1$": "sha1",
    "md5$$": "unsalted md5",
}
"""How other programs' hashes begin."""
_UNSALTED = {32: "unsalted md5", 40: "unsalted sha1", 64: "unsalted sha256", 128: "unsalted sha512"}
"""The lengths of bare digests, in hexadecimal digits."""


def warn_if_unreadable(user_id: int | None, encoded: str) -> None:
    """Logs, once per user, that no hasher of ``PASSWORD_HASHERS`` reads the hash, and what to add."""
    if not is_password_usable(encoded):
        return
    try:
        identify_hasher(encoded)
    except ValueError:
        _warn(user_id, *_described(encoded))


def warn_of_malformed(user_id: int | None) -> None:
    """Logs, once per user, that the hasher that the hash names fails to read it."""
    _warn(user_id, "malformed, or its hasher lacks a package", "install what the hasher needs, or set a new password")


@lru_cache(maxsize=MOST_REMEMBERED)
def _warn(user_id: int | None, algorithm: str, remedy: str) -> None:
    logger.warning("user %s cannot sign in: the password's hash is %s; %s", user_id, algorithm, remedy)


def _described(encoded: str) -> tuple[str, str]:
    """Returns the algorithm and what to do. Nothing of the hash is in it: only names from the tables above."""
    algorithm = encoded.partition("$")[0]
    if algorithm in _HASHERS and not encoded.startswith("md5$$"):
        return algorithm, _to_add(algorithm)
    other = next((name for beginning, name in _OTHERS.items() if encoded.startswith(beginning)), None)
    if other is not None and other.endswith("without Django's prefix"):
        name = other.partition(" ")[0]
        prefix = "argon2" if name == "argon2" else f"{name}$"
        return other, f"store {prefix} in front of it, and {_to_add(name)} unless it is there"
    if other is None and _is_hexadecimal(encoded):
        other = _UNSALTED.get(len(encoded))
    return other or "of an unknown algorithm", "add a hasher that reads it to PASSWORD_HASHERS, or set a new password"


def _to_add(algorithm: str) -> str:
    package = f" (and install {_PACKAGES[algorithm]})" if algorithm in _PACKAGES else ""
    return f"add {_HASHERS[algorithm]} to PASSWORD_HASHERS{package}"


def _is_hexadecimal(text: str) -> bool:
    return all(character in "0123456789abcdefABCDEF" for character in text)
