"""What is proven about a caller: who it is, until when, and what can end it."""

from dataclasses import dataclass
from typing import NoReturn

from fastapi_app.core.errors import Unauthenticated
from fastapi_app.core.revocation import Revocable


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, and what they may do: a user through a client or an API key, or a client for itself."""

    user_id: int | None
    """None: a machine calls, for nobody but itself."""
    client_id: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Credential:
    """A principal, as long as ``expires_at`` (seconds since the epoch) lies ahead and nothing has ended it."""

    principal: Principal
    expires_at: float
    revocable: Revocable


def refuse(reason: str) -> NoReturn:
    """Refuse a credential that was shown (RFC 6750, section 3.1).

    Raises:
        Unauthenticated: always.
    """
    challenge = f'Bearer realm="tandem", error="invalid_token", error_description="{reason}"'
    raise Unauthenticated(f"The access token was refused: {reason}.", headers={"WWW-Authenticate": challenge})
