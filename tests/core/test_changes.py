"""Changes of one row and insertions of many: what is left out, what is null, and what is refused."""

import pytest
from sqlalchemy.exc import IntegrityError

from fastapi_app.core.changes import Change, InsertMany, translated
from fastapi_app.core.database import INTEGRITY_ERRORS
from fastapi_app.core.errors import Conflict
from tests.schema.everyfield import models
from tests.schema.everyfield.tables import PARCEL_NUMBER_UNIQUE, Parcel
from tests.schema.fixtures import Api

SHOWN = (Parcel.id, Parcel.number, Parcel.note, Parcel.place)
INSERT_MANY = InsertMany(Parcel, (Parcel.number, Parcel.place, Parcel.sender_id), unique=Parcel.number)


class NumberTaken(Conflict):
    """Another parcel has the number."""


@pytest.fixture
def sender(database: str) -> int:
    return int(models.Author.objects.create(name="Ada").pk)


@pytest.fixture
def parcel(sender: int) -> models.Parcel:
    return models.Parcel.objects.create(number="P1", place="Ulm", note="fragile", sender_id=sender)


class VersionedParcel(Parcel):
    """The table, with its weight as the version: it stands for a model that has one."""

    version = Parcel.__table__.c.weight


CHANGE = Change(VersionedParcel, (Parcel.number, Parcel.place, Parcel.note), returning=SHOWN)


def test_change__left_out_stays__null_is_null_where_the_column_may_be(api: Api, parcel: models.Parcel) -> None:
    left_out = api.run(CHANGE.run(api.database, parcel.pk, {"place": "Rom"}))
    emptied = api.run(CHANGE.run(api.database, parcel.pk, {"note": None}))
    nobody = api.run(CHANGE.run(api.database, parcel.pk + 99, {"note": None}))

    assert left_out == {"id": parcel.pk, "number": "P1", "note": "fragile", "place": "Rom"}
    assert emptied == {"id": parcel.pk, "number": "P1", "note": None, "place": "Rom"}
    assert nobody is None


def test_change__of_a_column_that_is_not_offered__is_a_mistake(api: Api, parcel: models.Parcel) -> None:
    with pytest.raises(TypeError, match="the change has no column weight"):
        api.run(CHANGE.run(api.database, parcel.pk, {"weight": 3}))


def test_insert_many__some_are_taken__inserts_the_others(api: Api, parcel: models.Parcel, sender: int) -> None:
    rows = [{"number": f"P{n}", "place": "Ulm", "sender_id": sender} for n in range(InsertMany.MANY + 3)]

    taken = api.run(INSERT_MANY.run(api.database, rows))

    assert taken == {"P1"}
    assert models.Parcel.objects.count() == InsertMany.MANY + 3


def test_insert_many__a_value_twice__is_taken_in_one_statement_as_in_two(api: Api, sender: int) -> None:
    rows = [{"number": "P1", "place": "Ulm", "sender_id": sender} for _ in range(InsertMany.MANY)]

    assert api.run(INSERT_MANY.run(api.database, rows)) == {"P1"}
    assert api.run(INSERT_MANY.run(api.database, rows[:1])) == {"P1"}
    assert models.Parcel.objects.count() == 1


def test_insert_many__another_constraint__is_not_taken_for_the_unique_value(
    api: Api, parcel: models.Parcel, sender: int
) -> None:
    with_id = InsertMany(Parcel, (Parcel.id, Parcel.number, Parcel.place, Parcel.sender_id), unique=Parcel.number)
    row = {"id": parcel.pk, "number": "P2", "place": "Ulm", "sender_id": sender}

    with pytest.raises(INTEGRITY_ERRORS):
        api.run(with_id.run(api.database, [row]))


def test_refusal__of_a_known_constraint__is_the_domains_error_and_any_other_stays(
    api: Api, parcel: models.Parcel, sender: int
) -> None:
    other = models.Parcel.objects.create(number="P2", place="Ulm", sender_id=sender)
    taken = translated({PARCEL_NUMBER_UNIQUE: NumberTaken})

    with pytest.raises(NumberTaken), taken():
        api.run(CHANGE.run(api.database, other.pk, {"number": "P1"}))
    with pytest.raises(INTEGRITY_ERRORS), taken():
        raise IntegrityError("", {}, Exception("NOT NULL constraint failed"))
