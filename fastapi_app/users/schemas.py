"""Users as the API's clients see and send them."""

import datetime
from enum import StrEnum
from typing import Annotated, TypedDict

from pydantic import MISSING, BaseModel, ConfigDict, Field, StrictBool

from fastapi_app.core.emails import EmailAddress, LookedUpEmail, SearchedEmail, ShownEmail
from fastapi_app.core.fields import Moment, Name, Text
from fastapi_app.core.pagination import PageQuery


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
        Text | None, LookedUpEmail, Field(description="The user with this address, in any spelling of it.")
    ] = None
    is_active: Annotated[bool | None, Field(description="Only those who are, or are not.")] = None
    created_from: Annotated[Moment | None, Field(description="Created then or later; sorts by created_at.")] = None
    created_before: Annotated[Moment | None, Field(description="Created before; sorts by created_at.")] = None
    search: Annotated[
        Text | None,
        SearchedEmail,
        Field(description="The beginning of an address or a name, in any case; sorted by what it matches."),
    ] = None
    sort: Annotated[UserSort | None, Field(description="Default: by id, or the order that the filter implies.")] = None


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
    display_name: Name = ""


class UserUpdate(BaseModel):
    """What to change. What is left out stays as it is; nothing can be null."""

    model_config = ConfigDict(extra="forbid")

    email: EmailAddress | MISSING = MISSING
    display_name: Name | MISSING = MISSING
    is_active: StrictBool | MISSING = MISSING


class ImportOut(BaseModel):
    """What an import did."""

    created: int
    """Users; all rows of the file."""
