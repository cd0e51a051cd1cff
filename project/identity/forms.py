"""The admin's forms of identity."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, cast

from django import forms

from project.accounts.models import User
from project.identity.models import ApiKey
from project.identity.scopes import held_by
from project.scopes import SCOPES


class ScopesField(forms.MultipleChoiceField):
    """Scopes as boxes to tick, kept as one text separated by spaces."""

    widget = forms.CheckboxSelectMultiple

    def __init__(self, choices: dict[str, str], **kwargs: Any) -> None:
        self._described = choices
        super().__init__(choices=_labelled(choices), **kwargs)

    def offer(self, scopes: Collection[str]) -> None:
        """Accept only ``scopes``, and show no other."""
        self.choices = _labelled({name: text for name, text in self._described.items() if name in scopes})

    def prepare_value(self, value: Any) -> Any:
        return value.split() if isinstance(value, str) else value

    def clean(self, value: Any) -> Any:
        return " ".join(super().clean(value))

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


def _labelled(descriptions: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, f"{name}: {description}") for name, description in descriptions.items()]


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new API key: whose, what for, until when, and which of its owner's scopes."""

    maker: User
    """The admin sets it on the class that it makes for each request."""
    scopes = ScopesField(
        {name: rule.description for name, rule in SCOPES.items()},
        required=False,
        help_text="Maker and owner must hold the permissions that these need; the owner whenever the key is used.",
    )

    class Meta:
        model = ApiKey
        fields: ClassVar = ["name", "owner", "scopes", "expires_at"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast("ScopesField", self.fields["scopes"]).offer(held_by(self.maker, SCOPES))

    def clean(self) -> dict[str, Any]:
        """Refuse scopes that the owner does not hold, and owners who are deactivated."""
        cleaned = super().clean() or {}
        owner, scopes = cleaned.get("owner"), cleaned.get("scopes", "").split()
        if owner is not None and not owner.is_active:
            self.add_error("owner", "This account is deactivated.")
        elif owner is not None and (missing := [name for name in scopes if name not in held_by(owner, scopes)]):
            self.add_error("scopes", f"The owner does not hold what this needs: {' '.join(missing)}.")
        return cleaned
