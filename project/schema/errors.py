"""What the generator says when it cannot go on."""

from typing import Any

from django.db import models


class CannotMap(Exception):
    """A field that has no exact counterpart in SQLAlchemy; the message names model, field and cure."""

    def __init__(self, field: "models.Field[Any, Any]", fault: str, cure: str) -> None:
        super().__init__(f"{field.model._meta.label}.{field.name}: {fault}. {cure}")
        self.field = field
        self.fault = fault
        self.cure = cure
