"""The e-mail column: one spelling for one address."""

from typing import Any

from django.db import models


class LowerCaseEmailField(models.EmailField):  # type: ignore[type-arg]
    """An e-mail address in lower case, whichever way it is written, looked up or logged in with."""

    def to_python(self, value: Any) -> Any:
        value = super().to_python(value)
        return value.lower() if isinstance(value, str) else value

    def get_prep_value(self, value: Any) -> Any:
        return self.to_python(super().get_prep_value(value))

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = self.to_python(super().pre_save(model_instance, add))
        setattr(model_instance, self.attname, value)
        return value
