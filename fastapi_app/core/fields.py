"""Kinds of values that most schemas have."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints

from fastapi_app.core.listing import EARLIEST, LATEST


def _without_controls(value: str) -> str:
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in value):
        raise ValueError("control characters and line breaks are not allowed")
    return value


Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=150),
    AfterValidator(_without_controls),
    # The pattern says what the validator refuses.
    Field(json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"}),
]
"""A name for people to read: one line, of at most 150 characters."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=254), AfterValidator(_without_controls)]
"""One line of text, of 1 to 254 characters, as a filter takes it."""


def _with_a_date(value: object) -> object:
    if isinstance(value, str) and not _begins_with_date(value):
        raise ValueError("write it as RFC 3339 does, such as 2026-01-31T12:00:00Z")
    return value


_begins_with_date = re.compile(r"\d{4}-\d\d-\d\d").match
Moment = Annotated[AwareDatetime, Field(ge=EARLIEST, le=LATEST), BeforeValidator(_with_a_date)]
"""A moment that every database and every time zone knows. Numbers, which pydantic would take, are not documented."""
