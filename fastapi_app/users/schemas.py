"""Users as the API's clients see and send them."""

import datetime
import unicodedata
from typing import Annotated

from pydantic import MISSING, AfterValidator, BaseModel, ConfigDict, EmailStr, Field, StrictBool, StringConstraints


def _lower_case(value: str) -> str:
    return value.lower()


def _without_controls(value: str) -> str:
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in value):
        raise ValueError("control characters and line breaks are not allowed")
    return value


Email = Annotated[EmailStr, Field(max_length=254), AfterValidator(_lower_case)]
DisplayName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=150),
    AfterValidator(_without_controls),
    Field(
        json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"}
    ),  # What the validator refuses.
]


class UserOut(BaseModel):
    """A person with an account."""

    id: int
    email: str
    display_name: str
    is_active: bool
    is_staff: bool
    created_at: datetime.datetime
    updated_at: datetime.datetime


class UserCreate(BaseModel):
    """A new user. They have no password: those are Django's, set in the admin."""

    model_config = ConfigDict(extra="forbid")

    email: Email
    display_name: DisplayName = ""


class UserUpdate(BaseModel):
    """What to change. What is left out stays as it is; nothing can be null."""

    model_config = ConfigDict(extra="forbid")

    email: Email | MISSING = MISSING
    display_name: DisplayName | MISSING = MISSING
    is_active: StrictBool | MISSING = MISSING
