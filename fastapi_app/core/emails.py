"""E-mail addresses as a type of the API's schemas; ``project.addresses`` has the rule, which is both halves'."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from project.addresses import LONGEST, InvalidAddress, looked_up, normal_form, searched, shown


def email_address(value: str) -> str:
    """Returns ``value`` as it is stored.

    Raises:
        PydanticCustomError: it is no address, or it could pass for another.
    """
    try:
        return normal_form(value)
    except InvalidAddress as error:
        raise PydanticCustomError(
            "value_error", "value is not a valid email address: {reason}", {"reason": str(error)}
        ) from None


EmailAddress = Annotated[
    str, Field(max_length=LONGEST, json_schema_extra={"format": "email"}), AfterValidator(email_address)
]
"""An address that somebody can have, in its normal form."""
ShownEmail = Annotated[str, AfterValidator(shown)]
"""A stored address as the API's clients see it: its domain in U-labels."""
LookedUpEmail = AfterValidator(lambda value: value and looked_up(value))
"""For a filter: whatever the spelling, the one that is stored."""
SearchedEmail = AfterValidator(lambda value: value and searched(value))
"""For a search: the beginning of an address as it is stored, or of anything else as it is."""
