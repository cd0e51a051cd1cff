"""Users as the API's clients see and send them."""

import datetime
import re
import unicodedata
from enum import StrEnum
from typing import Annotated, TypedDict

from pydantic import (
    MISSING,
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
)

from fastapi_app.core.emails import EmailAddress, LookedUpEmail, SearchedEmail, ShownEmail
from fastapi_app.core.pagination import PageQuery


def _without_controls(value: str) -> str:
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in value):
        raise ValueError("control characters and line breaks are not allowed")
    return value


DisplayName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=150),
    AfterValidator(_without_controls),
    Field(
        json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"}
    ),  # What the validator refuses.
]


Text = Annotated[str, StringConstraints(min_length=1, max_length=254), AfterValidator(_without_controls)]
EARLIEST = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
LATEST = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)


def _with_a_date(value: object) -> object:
    if isinstance(value, str) and not _begins_with_date(value):
        raise ValueError("write it as RFC 3339 does, such as 2026-01-31T12:00:00Z")
    return value


_begins_with_date = re.compile(r"\d{4}-\d\d-\d\d").match
Moment = Annotated[AwareDatetime, Field(ge=EARLIEST, le=LATEST), BeforeValidator(_with_a_date)]
"""A moment that every database and every time zone knows. Numbers, which pydantic would take, are not documented."""


class UserSort(StrEnum):
    """The orders to list users in; a minus is for the last first."""

    ID = "id"
    ID_DESCENDING = "-id"
    CREATED = "created_at"
    CREATED_DESCENDING = "-created_at"
    EMAIL = "email"
    EMAIL_DESCENDING = "-email"


class UserQuery(PageQuery):
    """Which users to list, and in which order."""

    email: Annotated[
        Text | None,
        LookedUpEmail,
        Field(description="The user with this address, in any spelling of it."),
    ] = None
    is_active: Annotated[bool | None, Field(description="Only those who are, or are not.")] = None
    created_from: Annotated[Moment | None, Field(description="Created then or later; sorts by created_at.")] = None
    created_before: Annotated[Moment | None, Field(description="Created before; sorts by created_at.")] = None
    search: Annotated[
        Text | None,
        SearchedEmail,
        Field(description="The beginning of an address or a name, in any case; sorted by what it matches."),
    ] = None
    sort: Annotated[UserSort | None, Field(description="Without it: by id, or as a filter says.")] = None


class UserOut(TypedDict):
    """A person with an account."""

    id: int
    email: ShownEmail
    display_name: str
    is_active: bool
    is_staff: bool
    created_at: datetime.datetime
    updated_at: datetime.datetime


class UserCreate(BaseModel):
    """A new user. They have no password: those are Django's, set in the admin."""

    model_config = ConfigDict(extra="forbid")

    email: EmailAddress
    display_name: DisplayName = ""


class UserUpdate(BaseModel):
    """What to change. What is left out stays as it is; nothing can be null."""

    model_config = ConfigDict(extra="forbid")

    email: EmailAddress | MISSING = MISSING
    display_name: DisplayName | MISSING = MISSING
    is_active: StrictBool | MISSING = MISSING


class ImportOut(BaseModel):
    """What an import did."""

    created: int
    """Users; all rows of the file."""
