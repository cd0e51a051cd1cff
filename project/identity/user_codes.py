"""Codes that a person types from a device's screen (RFC 8628, section 6.1)."""

import secrets

ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so no words; nothing that looks like something else."""
LENGTH = 8
"""20^8 codes: with the limit on guesses (project.identity.limits) one in a billion is hit while a code lives."""


def user_code() -> str:
    """A new code, such as ``WDJB-MJHT``."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return f"{letters[: LENGTH // 2]}-{letters[LENGTH // 2 :]}"


def as_issued(typed: str) -> str:
    """The code that somebody meant who typed it in lower case, with or without the dash, or with spaces."""
    letters = "".join(letter for letter in typed.upper() if letter.isalnum())
    return f"{letters[: LENGTH // 2]}-{letters[LENGTH // 2 :]}"
