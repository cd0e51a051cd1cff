"""What is proven about a caller: who it is, until when, and what can end it."""

from dataclasses import dataclass
from typing import NoReturn

from fastapi_app.core.errors import Unauthenticated
from fastapi_app.core.revocation import Revocable
from project.config import config


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


def challenge(**parameters: str) -> dict[str, str]:
    """Returns ``WWW-Authenticate`` with these parameters (RFC 6750, section 3).

    ``resource_metadata`` leads a client to the issuers whose tokens the API accepts (RFC 9728, section 5.1).
    """
    named = {"realm": "tandem", **parameters, "resource_metadata": config.resource_metadata_url}
    return {"WWW-Authenticate": "Bearer " + ", ".join(f'{name}="{value}"' for name, value in named.items())}


def refuse(reason: str) -> NoReturn:
    """Refuse a credential that was shown (RFC 6750, section 3.1).

    Raises:
        Unauthenticated: always.
    """
    headers = challenge(error="invalid_token", error_description=reason)
    raise Unauthenticated(f"The access token was refused: {reason}.", headers=headers)
