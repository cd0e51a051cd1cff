"""E-mail addresses: email-validator's verdict, without asking it about the same domain for each address again.

It looks at every character of a domain by the rules for international names, which costs more than storing a user.
"""

import re
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, Field, validate_email
from pydantic_core import PydanticCustomError

LONGEST = 254
"""Characters (RFC 5321, section 4.5.3.1.3, without the angle brackets)."""

_is_plain = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII | re.IGNORECASE)
"""A dot-atom (RFC 5322, section 3.2.3)."""
_LONGEST_LOCAL_PART = 64


def email_address(value: str) -> str:
    """``value`` as it is stored: valid, and in lower case.

    Raises:
        PydanticCustomError: it is no address that mail can be sent to.
    """
    local, _, domain = value.rpartition("@")
    if len(value) <= LONGEST and len(local) <= _LONGEST_LOCAL_PART and _is_plain.fullmatch(local) and _is_good(domain):
        return value.lower()
    return validate_email(value)[1].lower()


@lru_cache(maxsize=1024)
def _is_good(domain: str) -> bool:
    """Whether it is a domain that email-validator accepts as it is written, but for its case."""
    try:
        return domain.isascii() and validate_email(f"x@{domain}")[1] == f"x@{domain.lower()}"
    except PydanticCustomError:
        return False


EmailAddress = Annotated[
    str, Field(max_length=LONGEST, json_schema_extra={"format": "email"}), AfterValidator(email_address)
]
"""An address that somebody can have, in lower case."""
