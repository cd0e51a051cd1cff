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
    issuer: str = ""
    """Whose name for a machine ``client_id`` is; empty: our own."""

    @property
    def name(self) -> str:
        """What tells callers apart, whatever token or API key they show: rate limits and idempotency keys are per name.

        A machine has one of its own, which no machine of another issuer has.
        """
        return f"client:{self.issuer}:{self.client_id}" if self.user_id is None else f"user:{self.user_id}"


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
