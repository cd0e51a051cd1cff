"""One field, one constraint: what is written for it, or why it cannot be."""

import ast
import json
from typing import Any, ClassVar

import pytest
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test.utils import isolate_apps

from project.schema import defaults, fields
from project.schema.columns import Attribute, column
from project.schema.constraints import constraints
from project.schema.defaults import teach_default
from project.schema.errors import CannotMap
from project.schema.fields import exactly, teach
from project.schema.names import class_names
from project.schema.source import Call, Source, imports, literal


def mapped(field: "models.Field[Any, Any]") -> Attribute:
    """The column of a field called ``thing`` on a model called ``Shelf``."""
    with isolate_apps("tests.schema.everyfield"):
        model: Any = type("Shelf", (models.Model,), {"__module__": "tests.schema.everyfield.models", "thing": field})
    return column(model._meta.get_field("thing"))


class Upside(models.CharField):  # type: ignore[type-arg]
    def from_db_value(self, value: str | None, *_context: Any) -> str | None:
        return value and value[::-1]


class Caseless(models.CharField):  # type: ignore[type-arg]
    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "citext"


class Decoder(json.JSONDecoder):
    pass


class Point(models.Field):  # type: ignore[type-arg]
    pass


def made_by_django() -> str:
    return "made"


@pytest.mark.parametrize(
    ("field", "fault"),
    [
        (Point(), "no SQLAlchemy type is known for Point"),
        (Upside(max_length=5), r"Upside has its own from_db_value\(\), so it is not just a CharField"),
        (Caseless(max_length=5), r"Caseless has its own db_type\(\), so it is not just a CharField"),
        (models.JSONField(decoder=Decoder), "its decoder Decoder makes values that only Django reads"),
        (
            models.CharField(default=made_by_django),
            "its default tests.schema.test_mapping.made_by_django is a function",
        ),
        (models.CharField(default=lambda: "x"), "its default tests.schema.test_mapping.<lambda> is a function"),
        (models.FloatField(default=float("inf")), "its default cannot be written down: no literal makes inf"),
        (models.JSONField(default=["a"]), r"its default cannot be written down: no literal makes \['a'\]"),
    ],
)
def test_column__field_without_an_exact_counterpart__names_model_field_and_cure(
    field: "models.Field[Any, Any]", fault: str
) -> None:
    with pytest.raises(CannotMap, match=rf"^everyfield\.Shelf\.thing: {fault}.*\. (Say|Leave|Give) .*"):
        mapped(field)


def test_teach__a_class_of_fields__maps_it_and_its_subclasses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "_MAPPINGS", dict(fields._MAPPINGS))

    teach(Point, exactly("Position", "PositionType", "shop.types.Position", "shop.types.PositionType"))

    attribute = mapped(type("Place", (Point,), {})(null=True))
    assert (attribute.annotation, str(attribute.call)) == ("Position | None", "mapped_column(PositionType)")
    assert attribute.imports == ("shop.types.Position", "shop.types.PositionType")


def test_teach_default__a_function_of_djangos_side__is_written_as_its_counterpart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(defaults, "_COUNTERPARTS", dict(defaults._COUNTERPARTS))

    teach_default(made_by_django, Source("made", ("shop.types.made",)))

    assert str(mapped(models.TextField(default=made_by_django)).call) == "mapped_column(sa.Text, default=made)"


@pytest.mark.parametrize(
    ("field", "call"),
    [
        (models.CharField(max_length=5, db_collation="C"), 'mapped_column(sa.String(5, collation="C"))'),
        (models.TextField(unique=True), "mapped_column(sa.Text, unique=True)"),
        (
            models.EmailField(default="", db_default=""),
            "mapped_column(sa.String(254), server_default=sa.FetchedValue())",
        ),
        (
            models.DateTimeField(auto_now=True, db_default=None),
            "mapped_column(UtcDateTime, server_default=sa.FetchedValue(), onupdate=now)",
        ),
    ],
)
def test_column__options_of_a_field__are_written(field: "models.Field[Any, Any]", call: str) -> None:
    assert str(mapped(field).call) == call


@isolate_apps("tests.schema.everyfield")
def test_constraints__what_only_postgresql_has__is_written_where_sqlalchemy_can_say_it() -> None:
    class Shelf(models.Model):
        row = models.IntegerField()

        class Meta:
            app_label = "everyfield"
            constraints: ClassVar = [
                models.UniqueConstraint(fields=["row"], name="deferred", deferrable=models.Deferrable.DEFERRED),
                models.UniqueConstraint(fields=["row"], name="one null", nulls_distinct=False),
            ]

    assert [(constraint.name, str(constraint.call)) for constraint in constraints(Shelf)] == [
        ("DEFERRED", 'sa.UniqueConstraint("row", name="deferred", deferrable=True, initially="DEFERRED")'),
        ("ONE_NULL", 'sa.UniqueConstraint("row", name="one null", postgresql_nulls_not_distinct=True)'),
    ]


def test_class_names__same_name_in_two_apps__carry_the_apps() -> None:
    def group(app_label: str) -> type[models.Model]:
        meta = type("Meta", (), {"app_label": app_label})
        with isolate_apps("tests.schema.everyfield"):
            return type("Group", (models.Model,), {"__module__": "somewhere", "Meta": meta})

    ours, theirs = group("team_work"), group("auth")

    assert class_names([ours, theirs]) == {ours: "TeamWorkGroup", theirs: "AuthGroup"}


@pytest.mark.parametrize("value", [None, True, 7, -0.5, 'it\'s "so"\n\\', 'a "quote"', "é", b"\x00\"'", "\u200b"])
def test_literal__any_plain_value__reads_back_as_itself(value: object) -> None:
    assert ast.literal_eval(literal(value).code) == value


def test_call__too_long_for_a_line__has_an_argument_a_line() -> None:
    call = Call("outer", ["a" * 60, Call("inner", ["b" * 60, "c" * 60])])

    assert call.lines("x = ", "") == [
        "x = outer(",
        f"    {'a' * 60},",
        "    inner(",
        f"        {'b' * 60},",
        f"        {'c' * 60},",
        "    ),",
        ")",
    ]


def test_imports__of_every_kind__stand_in_ruffs_order() -> None:
    names = ["sqlalchemy", "uuid.uuid4", "datetime", "uuid.UUID", "fastapi_app.core.types.now", "pydantic.BaseModel"]

    assert imports(names) == (
        "import datetime\nfrom uuid import UUID, uuid4\n\n"
        "import sqlalchemy as sa\nfrom pydantic import BaseModel\n\n"
        "from fastapi_app.core.types import now"
    )
