"""A listing: any number of orders, filters, ranges and searches, or none; and what it refuses at import."""

import datetime
from collections.abc import Sequence
from itertools import product
from typing import Annotated, Any

import pytest
from pydantic import AwareDatetime, Field
from sqlalchemy import func

from fastapi_app.core.errors import InvalidParameter
from fastapi_app.core.indexes import MissingIndex
from fastapi_app.core.listing import Equal, Flag, Listing, Moment, Number, Order, Range, Text
from fastapi_app.core.pagination import MAXIMUM_ID, PageQuery
from fastapi_app.core.statements import Row
from tests.schema.everyfield import models
from tests.schema.everyfield.tables import Author, Parcel
from tests.schema.fixtures import Api

NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)
SHOWN = (Parcel.id, Parcel.number, Parcel.weight, Parcel.sent_at, Parcel.place, Parcel.is_lost, Parcel.sender_id)
ORDERS: dict[str, Order] = {
    "number": Text(Parcel.number, unique=True),
    "weight": Number(Parcel.weight),
    "sent_at": Moment(Parcel.sent_at),
    "place": Text(Parcel.place),
}


class ParcelQuery(PageQuery):
    """Which parcels to list."""

    number: str | None = None
    sender_id: int | None = None
    is_lost: bool | None = None
    is_paid: bool | None = None
    sent_from: AwareDatetime | None = None
    sent_before: AwareDatetime | None = None
    weight_from: Annotated[int | None, Field(ge=0)] = None
    weight_before: int | None = None
    search: str | None = None
    sort: str | None = None


PARCELS = Listing(
    ParcelQuery,
    Parcel.id,
    SHOWN,
    orders=ORDERS,
    ranges=[Range("sent_at", "sent_from", "sent_before"), Range("weight", "weight_from", "weight_before")],
    filters={
        "is_lost": Flag(Parcel.is_lost, rare=True),
        "is_paid": Flag(Parcel.is_paid, rare=False),
        "sender_id": Equal(Parcel.sender_id),
    },
    unique={"number": Parcel.number},
    search=(Parcel.place, func.lower(Parcel.place)),
)


@pytest.fixture
def parcels(database: str) -> list[models.Parcel]:
    """Twelve parcels of two senders: many share a weight, place or moment, and some have the least or most of it."""
    ada, alan = (models.Author.objects.create(name=name) for name in ("Ada", "Alan"))
    weights = (0, 5, 5, 5, -(2**63), 2**63 - 2, 7, 7, 0, 5, 5, 5)
    places = ("", "Ulm", "ulm", "Ulm", "Rom", "\U0010fffe", "Rom", "Ulm", "Ölz", "oslo", "Oslo", "")
    return [
        models.Parcel.objects.create(
            number=f"P{(n * 7) % 12:02}",
            weight=weights[n],
            place=places[n],
            sent_at=NOON + SECOND * (n // 3),
            is_lost=n % 4 == 0,
            is_paid=n % 5 != 0,
            sender=ada if n % 3 else alan,
        )
        for n in range(12)
    ]


def listed(api: Api, listing: Listing = PARCELS, *, limit: int = 50, **asked: Any) -> list[Row]:
    """All rows of a list, page by page."""
    rows, cursor = list[Row](), None
    while True:
        page = api.run(listing.page(api.database, ParcelQuery(limit=limit, cursor=cursor, **asked)))
        rows += page.items
        cursor = page.next_cursor
        if cursor is None:
            return rows
        assert len(page.items) == limit


def numbers(rows: Sequence[Row]) -> list[str]:
    return [row["number"] for row in rows]


@pytest.mark.parametrize(("by", "descending"), list(product(["id", *ORDERS], [False, True])))
def test_list__each_order_and_each_combination_of_filters__shows_each_row_once(
    api: Api, parcels: list[models.Parcel], by: str, descending: bool
) -> None:
    def place(parcel: models.Parcel) -> Any:
        value = getattr(parcel, by)
        return (value.encode() if isinstance(value, str) else value, parcel.pk)

    sender = parcels[0].sender_id
    for is_lost, is_paid, sender_id, limit in product((None, True, False), (None, True, False), (None, sender), (2, 9)):
        wanted = [
            parcel
            for parcel in sorted(parcels, key=place, reverse=descending)
            if is_lost in {None, parcel.is_lost}
            and is_paid in {None, parcel.is_paid}
            and sender_id in {None, parcel.sender_id}
        ]

        asked: dict[str, Any] = {"is_lost": is_lost, "is_paid": is_paid, "sender_id": sender_id}
        found = listed(api, sort=f"-{by}" if descending else by, limit=limit, **asked)

        assert numbers(found) == [parcel.number for parcel in wanted], asked


def test_range__of_either_order__begins_with_its_first_bound_and_ends_before_the_other(
    api: Api, parcels: list[models.Parcel]
) -> None:
    sent = listed(api, sent_from=NOON + SECOND, sent_before=NOON + 3 * SECOND, limit=2)
    heavy = listed(api, weight_from=5, weight_before=7, sort="-weight", limit=2)

    assert {row["sent_at"] for row in sent} == {NOON + SECOND, NOON + 2 * SECOND}
    assert len(sent) == 6
    assert [row["weight"] for row in heavy] == [5] * 6
    assert [row["id"] for row in heavy] == sorted((row["id"] for row in heavy), reverse=True)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"sent_from": NOON, "weight_from": 1}, "weight_from"),
        ({"sent_from": NOON, "sort": "weight"}, "sort"),
        ({"search": "u", "sort": "weight"}, "sort"),
        ({"search": "u", "number": "P01"}, "number"),
        ({"search": "u", "weight_before": 1}, "weight_before"),
    ],
)
def test_query__that_no_index_serves__is_refused_by_name(api: Api, asked: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        listed(api, **asked)

    assert [error["parameter"] for error in refused.value.errors or ()] == [named]


@pytest.mark.parametrize("sort", ["", "-", "--id", "--weight", "-wrong", "wrong", "id,weight", "weight desc"])
def test_sort__by_an_unknown_order__is_refused(api: Api, parcels: list[models.Parcel], sort: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        listed(api, sort=sort)

    assert [error["parameter"] for error in refused.value.errors or ()] == ["sort"]


@pytest.mark.parametrize("asked", [{"sort": "sent_at"}, {"sort": "-sent_at"}, {"sent_from": None}])
def test_order_by_a_moment__of_any_year__shows_each_row_once(
    api: Api, parcels: list[models.Parcel], asked: dict[str, Any]
) -> None:
    for parcel, year in zip(parcels, (1, 800, 1969, 9998), strict=False):
        models.Parcel.objects.filter(pk=parcel.pk).update(sent_at=NOON.replace(year=year))
    models.Parcel.objects.filter(pk=parcels[4].pk).update(sent_at=NOON.replace(year=9999, month=12, day=31))

    found = listed(api, limit=2, **asked)

    years = [row["sent_at"].year for row in found]
    assert len({row["id"] for row in found}) == 12
    if "sort" in asked:
        assert years == sorted(years, reverse=asked["sort"].startswith("-"))
    assert {row["id"] for row in listed(api, sent_from=NOON)} >= {parcels[3].pk, parcels[4].pk}


class NoteQuery(PageQuery):
    """Which parcels to list, by what may be null."""

    number: str | None = None
    note: str | None = None
    search: str | None = None


class Unindexed(Listing):
    """A listing of columns that no index has: what it finds is the same."""

    def _require_indexes(self) -> None:
        pass


def test_row__whose_filtered_or_searched_column_is_null__is_found_by_the_others(
    api: Api, parcels: list[models.Parcel]
) -> None:
    listing = Unindexed(
        NoteQuery,
        Parcel.id,
        SHOWN,
        filters={"note": Equal(Parcel.note)},
        unique={"number": Parcel.number},
        search=(Parcel.note, Parcel.place),
    )
    models.Parcel.objects.filter(pk=parcels[0].pk).update(note="")

    def found(**asked: str) -> list[int]:
        return [row["id"] for row in api.run(listing.page(api.database, NoteQuery(**asked))).items]

    assert found(number=parcels[1].number) == [parcels[1].pk]
    assert found(number=parcels[1].number, note="") == []
    assert found(number=parcels[0].number, note="") == [parcels[0].pk]
    assert found(note="") == [parcels[0].pk]
    assert found(search="rom") == []
    models.Parcel.objects.filter(pk=parcels[4].pk).update(place="rome")
    assert found(search="rom") == [parcels[4].pk]


def test_cursor__of_another_query_with_the_same_name__is_refused(api: Api, parcels: list[models.Parcel]) -> None:
    other = type("ParcelQuery", (PageQuery,), {"__module__": "elsewhere"})
    cursor = api.run(PARCELS.page(api.database, ParcelQuery(limit=1))).next_cursor

    with pytest.raises(InvalidParameter):
        api.run(Listing(other, Parcel.id, SHOWN).page(api.database, other(cursor=cursor)))


def test_search__with_filters__finds_by_the_beginning(api: Api, parcels: list[models.Parcel]) -> None:
    found = listed(api, search="UL", limit=1)
    lost = listed(api, search="ul", is_lost=True)

    assert [row["place"] for row in found] == ["Ulm", "ulm", "Ulm", "Ulm"]
    assert numbers(lost) == []


def test_unique__value_of_one_row__is_found_where_everything_else_holds(api: Api, parcels: list[models.Parcel]) -> None:
    one = parcels[4]

    for asked in ({}, {"is_lost": True}, {"sender_id": one.sender_id}, {"sent_from": one.sent_at}):
        assert numbers(listed(api, number=one.number, **asked)) == [one.number]
    for asked in ({"is_lost": False}, {"sender_id": one.sender_id + 99}, {"sent_before": one.sent_at}):
        assert listed(api, number=one.number, **asked) == []


def test_list__without_anything_but_pages__is_by_id(api: Api, parcels: list[models.Parcel]) -> None:
    plain = Listing(PageQuery, Parcel.id, SHOWN)

    page = api.run(plain.page(api.database, PageQuery(limit=5)))
    rest = api.run(plain.page(api.database, PageQuery(limit=50, cursor=page.next_cursor)))
    batch = api.run(plain.after(api.database, parcels[2].pk, limit=4))

    assert numbers([*page.items, *rest.items]) == [parcel.number for parcel in parcels]
    assert numbers(batch) == [parcel.number for parcel in parcels[3:7]]
    assert MAXIMUM_ID not in {row["id"] for row in page.items}


class SortQuery(PageQuery):
    sort: str | None = None
    search: str | None = None
    is_lost: bool | None = None
    name: str | None = None


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        ({"orders": {"note": Text(Parcel.note)}}, "the order note of SortQuery is by a column that may be null"),
        ({"orders": {"name": Text(Author.name)}, "table": Author}, r"author on \(name COLLATE BINARY, id\)"),
        ({"filters": {"is_lost": Flag(Parcel.is_lost, rare=False)}}, r"parcel on \(id\) where is_lost = 0"),
        ({"filters": {"name": Equal(Parcel.weight)}, "orders": {"place": ORDERS["place"]}}, r"on \(weight, place"),
        ({"unique": {"name": Parcel.place}}, r"a unique constraint of everyfield_parcel on \(place\)"),
        ({"search": (Parcel.note,)}, r"on \(note COLLATE BINARY, id\)"),
        ({"filters": {"is_paid": Flag(Parcel.is_paid)}}, "SortQuery has no field is_paid"),
        ({"ranges": [Range("sent_at", "name", "name")]}, "a range of SortQuery is of no order: sent_at"),
        (
            {"orders": {"number": ORDERS["number"]}, "ranges": [Range("number", "name", "name")]},
            "a range of SortQuery is by a unique text: number",
        ),
    ],
)
def test_declaration__that_cannot_be_served__says_at_import_what_is_missing(
    offered: dict[str, Any], reason: str
) -> None:
    table = offered.pop("table", Parcel)

    with pytest.raises((MissingIndex, ValueError), match=reason):
        Listing(SortQuery, table.id, (table.id,), **offered)
