"""How secrets are kept: passwords slowly, because people choose them; random ones fast, because nobody guesses them."""

import hashlib
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.hashers import Argon2PasswordHasher, BasePasswordHasher

AT_ONCE = 2
"""Passwords hashed at once in a process: each takes 100 MB of memory and a processor for a tenth of a second."""
WAIT_S = 5.0
"""How long one more waits for its turn."""


class PasswordsBusy(Exception):
    """Too many passwords wait to be hashed; the answer is 503 (project.identity.limits)."""


_turns = threading.BoundedSemaphore(AT_ONCE)


@contextmanager
def _turn() -> Iterator[None]:
    if not _turns.acquire(timeout=WAIT_S):
        raise PasswordsBusy
    try:
        yield
    finally:
        _turns.release()


class BoundedArgon2PasswordHasher(Argon2PasswordHasher):
    """Argon2id with Django's parameters, a few at once.

    Raises:
        PasswordsBusy: its turn did not come in time.
    """

    def encode(self, password: str, salt: str) -> str:
        with _turn():
            return super().encode(password, salt)

    def verify(self, password: str, encoded: str) -> bool:
        with _turn():
            return super().verify(password, encoded)


class RandomSecretHasher(BasePasswordHasher):
    """SHA-256, for client secrets that we made from 32 random bytes: there is no dictionary of those."""

    algorithm = "sha256_token"

    def encode(self, password: str, salt: str) -> str:
        return f"{self.algorithm}${salt}${hashlib.sha256(f'{salt}{password}'.encode()).hexdigest()}"

    def decode(self, encoded: str) -> dict[str, Any]:
        algorithm, salt, digest = encoded.split("$", 2)
        return {"algorithm": algorithm, "salt": salt, "hash": digest}

    def verify(self, password: str, encoded: str) -> bool:
        return secrets.compare_digest(self.encode(password, self.decode(encoded)["salt"]), encoded)

    def safe_summary(self, encoded: str) -> Any:
        return {"algorithm": self.algorithm}

    def must_update(self, encoded: str) -> bool:
        return False

    def harden_runtime(self, password: str, encoded: str) -> None:
        """It always takes the same time."""
