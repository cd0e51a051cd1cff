"""E-mail addresses: whatever is asked, the answer is email-validator's."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError, validate_email
from pydantic_core import PydanticCustomError

from fastapi_app.core.emails import EmailAddress, email_address

PARTS = st.sampled_from([
    "", "a", "Ada", "b.c", ".", "..", "-", "_", "+", "'", "<", ">", "@", " ", '"q r"', '"q"', "(comment)", "\\", ",",
    "%", "é", "ß", "我", "xn--", "xn--bcher-kva", "bücher", "example", "EXAMPLE", "com", "COM", ".com", ".test",
    "localhost", "1", "-a", "a-", "[127.0.0.1]", "postmaster", "POSTMASTER", "_dmarc", "x" * 60, "y" * 64,
    "\n", "\t", "\x00", "\u200b", "\ufb01", "\uff0e",
])  # fmt: skip
ADDRESSES = st.one_of(
    st.emails(),
    st.builds("{}@{}".format, st.lists(PARTS, max_size=4).map("".join), st.lists(PARTS, max_size=5).map("".join)),
    st.text(max_size=40),
)


def by_the_library(value: str) -> str | None:
    try:
        return validate_email(value)[1].lower()
    except PydanticCustomError:
        return None


def by_us(value: str) -> str | None:
    try:
        return email_address(value)
    except PydanticCustomError:
        return None


@given(ADDRESSES)
@example("Ada@Example.COM")
@example("Ada Lovelace <ada@example.com>")
@example(f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 57}.com")
@example("a@xn--bcher-kva.com")
@example("a@b@example.com")
@example("a@example.com\n")
def test_address__any__is_what_email_validator_says(value: str) -> None:
    assert by_us(value) == by_the_library(value)
    assert by_us(value) == by_the_library(value), "and again, once its domain is known"


@pytest.mark.parametrize("value", [f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 63}.com", "nobody", "a@localhost"])
def test_address__not_valid__is_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(EmailAddress).validate_python(value)
