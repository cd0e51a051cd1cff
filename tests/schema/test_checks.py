"""The system checks: each trap for the second writer, and beside it what is none."""

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings
from django.core.checks import CheckMessage, run_checks
from django.db import models
from django.db.models.functions import MD5, Lower, Now, Repeat
from django.test import override_settings
from django.test.utils import isolate_apps
from django.utils import timezone

from project.schema import checks, fields
from project.schema.render import render

type Check = Callable[..., list[CheckMessage]]


def found(monkeypatch: pytest.MonkeyPatch, check: Check, model: type[models.Model]) -> list[str]:
    """The names of what the check warns of, on a project that has this one model."""
    monkeypatch.setattr(checks, "_own_models", lambda _app_configs: iter([model]))
    messages = check()
    assert all(message.hint and message.id for message in messages)
    return [message.obj.name if isinstance(message.obj, models.Field) else model.__name__ for message in messages]


@isolate_apps("tests.schema.everyfield")
def test_defaults__that_sql_could_say_and_only_python_does__are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shelf(models.Model):
        constant = models.IntegerField(default=0)
        moment = models.DateTimeField(default=timezone.now)
        created = models.DateTimeField(auto_now_add=True)
        in_both = models.IntegerField(default=0, db_default=0)
        updated = models.DateTimeField(auto_now=True, db_default=Now())
        token = models.UUIDField(default=uuid.uuid4)  # No SQL makes one on every database.
        options = models.JSONField(default=dict)
        without = models.IntegerField()

        class Meta:
            app_label = "everyfield"

    assert found(monkeypatch, checks.defaults_are_in_the_database, Shelf) == ["constant", "moment", "created"]


@isolate_apps("tests.schema.everyfield")
def test_deletions__by_rules_of_django_alone__are_warned_of_where_django_allows_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Shelf(models.Model):
        class Meta:
            app_label = "everyfield"

    class Foreign(models.Model):
        shelf = models.ForeignKey(Shelf, models.CASCADE)

        class Meta:
            app_label = "other"

    class Book(Shelf):
        cascade = models.ForeignKey(Shelf, models.CASCADE, related_name="+")
        null = models.ForeignKey(Shelf, models.SET_NULL, null=True, related_name="+")
        function = models.ForeignKey(Shelf, models.SET(None), null=True, related_name="+")
        protect = models.ForeignKey(Shelf, models.PROTECT, related_name="+")
        restrict = models.ForeignKey(Shelf, models.RESTRICT, related_name="+")
        in_database = models.ForeignKey(Shelf, models.DB_CASCADE, related_name="+")
        bound = models.ForeignKey(Foreign, models.CASCADE, related_name="+")

        class Meta:
            app_label = "everyfield"

    assert found(monkeypatch, checks.deletions_are_in_the_database, Book) == ["cascade", "null", "function"]


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("options", "is_trap"),
    [
        ({"constraints": [models.CheckConstraint(condition=models.Q(name__regex="^a"), name="c")]}, True),
        ({"constraints": [models.UniqueConstraint(MD5("name"), name="c")]}, True),
        ({"indexes": [models.Index(Repeat("name", 2), name="c")]}, True),
        ({"constraints": [models.CheckConstraint(condition=models.Q(name=Lower("name")), name="c")]}, False),
        ({"constraints": [models.CheckConstraint(condition=models.Q(name__startswith="a"), name="c")]}, False),
    ],
)
def test_functions__that_only_djangos_connections_have__are_warned_of(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object], is_trap: bool
) -> None:
    with isolate_apps("tests.schema.everyfield"):

        class Shelf(models.Model):
            name = models.CharField(max_length=40)
            Meta = type("Meta", (), {"app_label": "everyfield", **options})

    assert found(monkeypatch, checks.functions_are_everywhere, Shelf) == (["Shelf"] if is_trap else [])


@pytest.mark.sqlite
@isolate_apps("tests.schema.everyfield")
def test_functions__in_generated_fields_and_database_defaults__are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    class Generated(models.Model):
        name = models.CharField(max_length=40)
        digest = models.GeneratedField(
            expression=MD5("name"), output_field=models.CharField(max_length=32), db_persist=True
        )

        class Meta:
            app_label = "everyfield"

    class Defaulted(models.Model):
        digest = models.CharField(max_length=32, db_default=MD5(models.Value("x")))

        class Meta:
            app_label = "everyfield"

    assert found(monkeypatch, checks.functions_are_everywhere, Generated) == ["Generated"]
    assert found(monkeypatch, checks.functions_are_everywhere, Defaulted) == ["Defaulted"]


@pytest.mark.parametrize(
    ("changed", "is_trap"),
    [
        ({}, False),
        ({"USE_TZ": False}, True),
        ({"DATABASES": {"default": {**settings.DATABASES["default"], "TIME_ZONE": "Asia/Tokyo"}}}, True),
    ],
)
@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
def test_times__not_kept_in_utc__are_warned_of(changed: dict[str, object], is_trap: bool) -> None:
    with override_settings(**changed):
        assert [message.id for message in checks.times_are_utc()] == (["schema.W005"] if is_trap else [])


def test_tables__file_behind_the_models__are_warned_of_with_the_lines(tmp_path: Path) -> None:
    file = tmp_path / "tables.py"
    file.write_text(render(["accounts"]).replace("    is_staff: Mapped[bool]", "    is_chief: Mapped[bool]"))

    with override_settings(SCHEMA_APPS=["accounts"], SCHEMA_FILE=file):
        (warning,) = checks.tables_are_up_to_date()

    assert warning.id == "schema.W001"
    assert "+    is_staff: Mapped[bool]" in warning.msg


def test_tables__that_cannot_be_made__are_an_error_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "_MAPPINGS", {})

    (error,) = checks.tables_are_up_to_date()

    assert (error.id, error.obj.model._meta.app_label) == ("schema.E001", "everyfield")
    assert error.msg.startswith("no SQLAlchemy type is known for")
    assert "project.schema.fields.teach()" in str(error.hint)


def test_checks__of_the_products_own_models__find_nothing() -> None:
    with override_settings(SCHEMA_APPS=["accounts"]):
        assert not checks.defaults_are_in_the_database()
        assert not checks.deletions_are_in_the_database()
        assert not checks.functions_are_everywhere()


def test_checks__are_run_by_django() -> None:
    with override_settings(USE_TZ=False):
        assert "schema.W005" in {message.id for message in run_checks(tags=["models"])}
