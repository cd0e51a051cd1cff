"""The registry: which SQLAlchemy type reads and writes exactly what a Django field does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import models
from django.utils.module_loading import import_string

from project.schema.errors import CannotMap
from project.schema.source import quoted

type AnyField = models.Field[Any, Any]

TYPES = "fastapi_app.core.types"
"""Where the exact types are; named, not imported: Django does not know the API."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """How a column is written in the generated module."""

    annotation: str
    """What it holds in Python: the ``X`` of ``Mapped[X]``."""
    type: str
    """The SQLAlchemy type, as an expression."""
    imports: tuple[str, ...] = ()
    """The dotted names that both need: ``datetime`` is a module, ``decimal.Decimal`` a name in one."""


type Mapping = Callable[[Any], ColumnType]
"""Makes the column's type from a field of the class that it is registered for."""


def exactly(annotation: str, sqlalchemy_type: str, *imports: str) -> Mapping:
    """A mapping that is the same for every field of a class."""
    return lambda _field: ColumnType(annotation, sqlalchemy_type, imports)


def _text(name: str) -> Mapping:
    def mapping(field: Any) -> ColumnType:
        arguments = [str(field.max_length)] if field.max_length and name == "String" else []
        if collation := getattr(field, "db_collation", None):
            arguments.append(f"collation={quoted(collation)}")
        return ColumnType("str", f"sa.{name}({', '.join(arguments)})" if arguments else f"sa.{name}")

    return mapping


def _decimal(field: "models.DecimalField[Any, Any]") -> ColumnType:
    is_bounded = field.max_digits is not None
    arguments = f"({field.max_digits}, {field.decimal_places})" if is_bounded else ""
    return ColumnType("Decimal", f"ExactDecimal{arguments}", ("decimal.Decimal", f"{TYPES}.ExactDecimal"))


def _ip_address(field: "models.GenericIPAddressField[Any, Any]") -> ColumnType:
    arguments = "(unpack_ipv4=True)" if field.unpack_ipv4 else ""
    return ColumnType("str", f"IpAddress{arguments}", (f"{TYPES}.IpAddress",))


def _json(field: models.JSONField) -> ColumnType:
    if field.decoder is not None:
        raise CannotMap(
            field,
            f"its decoder {field.decoder.__qualname__} makes values that only Django reads",
            "Leave the decoder out, or give the field a class of its own and teach() the generator that class.",
        )
    return ColumnType("Any", "Json", ("typing.Any", f"{TYPES}.Json"))


_MAPPINGS: dict[type[AnyField], Mapping] = {
    # A subclass is mapped like the nearest of its bases here: EmailField as CharField, BigAutoField as BigIntegerField.
    models.SmallIntegerField: exactly("int", "sa.SmallInteger"),
    models.IntegerField: exactly("int", "sa.Integer"),
    models.BigIntegerField: exactly("int", "sa.BigInteger"),
    models.FloatField: exactly("float", "sa.Double"),
    models.DecimalField: _decimal,
    models.BooleanField: exactly("bool", "sa.Boolean"),
    models.CharField: _text("String"),
    models.TextField: _text("Text"),
    models.FileField: _text("String"),
    models.FilePathField: _text("String"),
    models.BinaryField: exactly("bytes", "sa.LargeBinary"),
    models.UUIDField: exactly("UUID", "sa.Uuid", "uuid.UUID"),
    models.DateField: exactly("datetime.date", "FiniteDate", "datetime", f"{TYPES}.FiniteDate"),
    models.DateTimeField: exactly("datetime.datetime", "UtcDateTime", "datetime", f"{TYPES}.UtcDateTime"),
    models.TimeField: exactly("datetime.time", "TimeOfDay", "datetime", f"{TYPES}.TimeOfDay"),
    models.DurationField: exactly("datetime.timedelta", "Duration", "datetime", f"{TYPES}.Duration"),
    models.GenericIPAddressField: _ip_address,
    models.JSONField: _json,
}

_DECIDES_THE_COLUMN = ("db_type", "get_internal_type", "from_db_value")
"""Methods by which a field class changes what is stored, or what is read from it."""

_TEACH = "Say which SQLAlchemy type does the same: project.schema.fields.teach() in your AppConfig.ready()."


def teach(field_class: type[AnyField], mapping: Mapping) -> None:
    """Have fields of this class, and of its subclasses, mapped by ``mapping``. Call it in an ``AppConfig.ready()``."""
    _MAPPINGS[field_class] = mapping


def column_type(field: AnyField) -> ColumnType:
    """The type of a field's column; a relation's is that of the column it points at.

    Raises:
        CannotMap: no mapping is known for a field of this class.
    """
    if isinstance(field, models.GeneratedField):
        return column_type(_output(field))
    if isinstance(field, models.ForeignKey):
        return column_type(field.target_field)
    for known in _migrated_class(field).__mro__:
        if mapping := _MAPPINGS.get(known):
            _demand_same_column(field, known)
            return mapping(field)
    raise CannotMap(field, f"no SQLAlchemy type is known for {type(field).__name__}", _TEACH)


def _migrated_class(field: AnyField) -> type[AnyField]:
    """The class that the field has in migrations.

    For the id of a table between two models they take the project's DEFAULT_AUTO_FIELD, and not its app's.
    """
    if field.primary_key and field.model._meta.auto_created:
        project_wide: type[AnyField] = import_string(settings.DEFAULT_AUTO_FIELD)
        return project_wide
    return type(field)


def _output(field: models.GeneratedField) -> AnyField:
    """What a generated field holds, as a field of the same name."""
    output: AnyField = field.output_field.clone()  # type: ignore[union-attr]  # Without one there is no such field.
    output.set_attributes_from_name(field.name)
    output.model = field.model
    return output


def _demand_same_column(field: AnyField, known: type[AnyField]) -> None:
    """Refuse a subclass that stores or reads something else than the class whose mapping it would get."""
    for name in _DECIDES_THE_COLUMN:
        owner = next((base for base in type(field).__mro__ if name in vars(base)), known)
        if not issubclass(known, owner) and not owner.__module__.startswith("django.db.models."):
            fault = f"{owner.__name__} has its own {name}(), so it is not just a {known.__name__}"
            raise CannotMap(field, fault, _TEACH)
