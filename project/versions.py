"""Versions: a number that every change of a row raises, from which the API makes its entity tags (RFC 9110, 8.8.3)."""

from typing import Any

from django.db import models
from django.db.models import F


class VersionField(models.BigIntegerField):  # type: ignore[type-arg]
    """Raised by the UPDATE itself, so that two writers never make the same version, nor a stale one an old version.

    ``Model.save`` raises it, and the generated table's UPDATE does; give the model's manager a ``VersionedQuerySet``,
    so that ``update`` and ``bulk_update`` do, too. SQL by hand must say ``version = version + 1``.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"default": 1, "db_default": 1, "editable": False, **options})

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        # Django reads the value that the expression made back into the instance.
        return super().pre_save(model_instance, add) if add else F(self.attname) + 1


class VersionedQuerySet[T: models.Model](models.QuerySet[T]):
    """A query set of a model that has a ``version``."""

    def update(self, **values: Any) -> int:
        return super().update(**{"version": F("version") + 1, **values})

    update.alters_data = True  # type: ignore[attr-defined]  # Django's mark: no template may call it.
