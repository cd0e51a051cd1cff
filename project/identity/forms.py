"""The admin's forms of identity."""

from typing import Any, ClassVar

from django import forms

from project.identity.models import ApiKey
from project.identity.scopes import held_by
from project.scopes import SCOPES


class ScopesField(forms.MultipleChoiceField):
    """Scopes as boxes to tick, kept as one text separated by spaces."""

    widget = forms.CheckboxSelectMultiple

    def __init__(self, choices: dict[str, str], **kwargs: Any) -> None:
        named = [(name, f"{name}: {description}") for name, description in choices.items()]
        super().__init__(choices=named, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return value.split() if isinstance(value, str) else value

    def clean(self, value: Any) -> Any:
        return " ".join(super().clean(value))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new API key: whose, what for, until when, and which of its owner's scopes."""

    scopes = ScopesField(
        {name: rule.description for name, rule in SCOPES.items()},
        required=False,
        help_text="The owner must hold what they need, now and whenever the key is used.",
    )

    class Meta:
        model = ApiKey
        fields: ClassVar = ["name", "owner", "scopes", "expires_at"]

    def clean(self) -> dict[str, Any]:
        """Refuse scopes that the owner does not hold, and owners who are deactivated."""
        cleaned = super().clean() or {}
        owner, scopes = cleaned.get("owner"), cleaned.get("scopes", "").split()
        if owner is not None and not owner.is_active:
            self.add_error("owner", "They are deactivated.")
        elif owner is not None and (missing := [name for name in scopes if name not in held_by(owner, scopes)]):
            self.add_error("scopes", f"The owner does not hold what this needs: {' '.join(missing)}.")
        return cleaned
