"""The JSON objects of a token, read by type: a member of another type than its standard says makes the token invalid.

What a token says is its signer's choice, and until the signature is verified, anybody's. Nothing else reads a member.
"""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, Self

from fastapi_app.core.credentials import refuse

LATEST_INSTANT = 253_402_300_800
"""The year 10000, in seconds since the epoch. A later ``exp`` is a mistake, and no number that a clock can add to."""
LARGEST_INTEGER = 2**63 - 1
"""What a column for ids holds."""
LONGEST_IDENTIFIER = 255
"""Characters of a subject (OpenID Connect Core 1.0, section 2), and of the other identifiers here."""

_is_base64url = re.compile(r"[A-Za-z0-9_-]*").fullmatch
_not_in_text = re.compile("[\x00-\x1f\x7f\ud800-\udfff]").search
"""Control characters and lone surrogates, which JSON can write and databases and headers cannot."""


class Claims:
    """The members of a JSON object. A member that is absent or ``null`` is read as None.

    A dot in a name leads into an object (``realm_access.roles``), unless there is a member of the whole name.
    Each method raises Unauthenticated when the member has another type.
    """

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._members = members

    @classmethod
    def decode(cls, segment: str) -> Self:
        """The object in a part of a token (RFC 7515, section 7.1). Raises Unauthenticated when there is none."""
        try:
            members = json.loads(
                base64url_decode(segment).decode(), object_pairs_hook=_unique, parse_constant=_no_number
            )
        except (ValueError, RecursionError):
            refuse("the token is not valid")
        if not isinstance(members, dict):
            refuse("the token is not valid")
        return cls(members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def find(self, name: str) -> Any:
        """The member, whatever its type."""
        if name in self._members:  # Auth0's names are addresses, which have dots of their own.
            return self._members[name]
        value: Any = self._members
        for step in name.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        return value

    def text(self, name: str) -> str | None:
        """A string without control characters."""
        value = self.find(name)
        if value is not None and (not isinstance(value, str) or _not_in_text(value)):
            refuse("the token is not valid")
        return value

    def identifier(self, name: str) -> str | None:
        """A string with at least one character, and at most ``LONGEST_IDENTIFIER``."""
        value = self.text(name)
        if value is not None and not 0 < len(value) <= LONGEST_IDENTIFIER:
            refuse("the token is not valid")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A string, or a list of strings; none when it is absent."""
        value = self.find(name)
        texts = [] if value is None else value if isinstance(value, list) else [value]
        if any(not isinstance(text, str) or _not_in_text(text) for text in texts):
            refuse("the token is not valid")
        return tuple(texts)

    def scopes(self, name: str) -> frozenset[str]:
        """Scopes: one string with spaces between (RFC 9068, section 2.2.3), or a list of strings."""
        texts = self.texts(name)
        return frozenset(texts if isinstance(self.find(name), list) else " ".join(texts).split())

    def integer(self, name: str) -> int | None:
        """A whole number from 0 on that a database holds."""
        value = self.find(name)
        if value is not None and (type(value) is not int or not 0 <= value <= LARGEST_INTEGER):
            refuse("the token is not valid")
        return value

    def instant(self, name: str) -> float | None:
        """A NumericDate (RFC 7519, section 2): seconds since the epoch, and neither NaN nor infinite."""
        value = self.find(name)
        if value is not None and (type(value) not in {int, float} or not 0 <= value < LATEST_INSTANT):
            refuse("the token is not valid")
        return None if value is None else float(value)

    def is_true(self, name: str) -> bool:
        """Whether the member is ``true`` in one of the spellings in use: a boolean, 1, or either as a string."""
        value = self.find(name)
        if isinstance(value, str):
            return value.strip().lower() in {"true", "1"}
        return isinstance(value, (bool, int, float)) and value == 1


def required[T](value: T | None) -> T:
    """``value``. Raises Unauthenticated when it is None, because the member is absent."""
    if value is None:
        refuse("the token is not valid")
    return value


def base64url_decode(segment: str) -> bytes:
    """The bytes of a part of a token (RFC 7515, section 2).

    Raises:
        ValueError: another character, or padding, is in it.
    """
    if not _is_base64url(segment):
        raise ValueError("not base64url")
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):  # Two readers could take different ones (RFC 7519, section 4).
        raise ValueError("a name is there twice")
    return members


def _no_number(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")
