"""E-mail addresses in the API's schemas: the rule of ``project.addresses``, as pydantic tells it."""

import pytest
from pydantic import TypeAdapter, ValidationError

from fastapi_app.core.emails import EmailAddress, ShownEmail


def test_address__valid__is_taken_in_its_normal_form() -> None:
    assert TypeAdapter(EmailAddress).validate_python("Hong@한국.example") == "hong@xn--3e0b707e.example"
    assert TypeAdapter(ShownEmail).validate_python("hong@xn--3e0b707e.example") == "hong@한국.example"


@pytest.mark.parametrize(
    "value", ["nobody", "a@localhost", "Name <a@b.example>", "<a@b.example>", f"{'x' * 255}@b.example"]
)
def test_address__not_valid__is_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(EmailAddress).validate_python(value)


def test_address__not_valid__is_told_why() -> None:
    with pytest.raises(ValidationError, match=r"value is not a valid email address: .* mixes letters"):
        TypeAdapter(EmailAddress).validate_python("\u0430lice@example.com")
