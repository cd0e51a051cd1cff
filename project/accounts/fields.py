"""The e-mail column and its form field: every address in its normal form (``project.addresses``)."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import lookups

from project.addresses import LONGEST, InvalidAddress, looked_up, normal_form, searched, shown

TYPED_AS_AN_ADDRESS = {"inputmode": "email", "autocapitalize": "none", "spellcheck": "false"}
"""Attributes of a text input. An ``<input type="email">`` rewrites what it is given: Chromium sends the domain in
A-labels, and refuses a local part that is not ASCII."""


def validate_address(value: str) -> None:
    """Refuses what the API refuses.

    Raises:
        ValidationError: it is no address, or it could pass for another.
    """
    try:
        normal_form(value)
    except InvalidAddress as error:
        raise ValidationError(str(error), code="invalid") from None


class AddressFormField(forms.CharField):
    """An e-mail address in a form: shown decoded, taken in any spelling."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": LONGEST, **options})

    def prepare_value(self, value: Any) -> Any:
        return shown(value) if isinstance(value, str) else value

    def to_python(self, value: Any) -> Any:
        value = super().to_python(value)
        return looked_up(value) if value else value

    def run_validators(self, value: Any) -> None:
        super().run_validators(value)
        if value:
            validate_address(value)

    def widget_attrs(self, widget: forms.Widget) -> dict[str, Any]:
        return super().widget_attrs(widget) | TYPED_AS_AN_ADDRESS


class LowerCaseEmailField(models.EmailField):  # type: ignore[type-arg]
    """An e-mail address in its normal form, whichever way it is written, looked up or signed in with."""

    default_validators = (validate_address,)  # type: ignore[assignment]  # Instead of Django's, which differs.

    def to_python(self, value: Any) -> Any:
        value = super().to_python(value)
        return looked_up(value) if isinstance(value, str) else value

    def get_prep_value(self, value: Any) -> Any:
        return self.to_python(super().get_prep_value(value))

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = self.to_python(super().pre_save(model_instance, add))
        setattr(model_instance, self.attname, value)
        return value

    def formfield(self, **options: Any) -> Any:
        return super().formfield(**{"form_class": AddressFormField, **options})


class _AsStored:
    """Lets a search for a part of an address, as the admin makes it, find what is stored encoded."""

    def get_prep_lookup(self) -> Any:
        value = super().get_prep_lookup()  # type: ignore[misc]  # The lookup's.
        return searched(value) if isinstance(value, str) else value


@LowerCaseEmailField.register_lookup
class _Contains(_AsStored, lookups.Contains): ...


@LowerCaseEmailField.register_lookup
class _IContains(_AsStored, lookups.IContains): ...


@LowerCaseEmailField.register_lookup
class _StartsWith(_AsStored, lookups.StartsWith): ...


@LowerCaseEmailField.register_lookup
class _IStartsWith(_AsStored, lookups.IStartsWith): ...
