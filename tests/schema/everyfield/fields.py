"""A field of a project's own, which the generator does not know until it is taught."""

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.schema.everyfield.colours import Colour


class ColourField(models.Field):  # type: ignore[type-arg]
    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "varchar(7)"

    def from_db_value(self, value: str | None, *_context: Any) -> Colour | None:
        return None if value is None else Colour.parse(value)

    def get_prep_value(self, value: Colour | None) -> str | None:
        return None if value is None else str(value)
