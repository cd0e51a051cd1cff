"""The generated tables at work: what Django made they find, and what they make Django finds."""

import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import selectinload

from fastapi_app.core.database import violates
from tests.schema.everyfield import models, tables
from tests.schema.fixtures import Api


def test_relations__made_with_sqlalchemy__are_djangos(database: str, api: Api) -> None:
    async def write() -> None:
        async with api.session() as session:
            mentor = tables.Author(name="Ada")
            author = tables.Author(name="Alan", mentor=mentor, follows=[mentor])
            book = tables.Book(title="Machines", author=author, editor=mentor, tags=[tables.Tag(name="logic")])
            session.add_all([book, tables.Profile(author=author, biography="Long")])
            await session.commit()

    api.run(write())

    book = models.Book.objects.get()
    assert (book.author.name, book.editor and book.editor.name) == ("Alan", "Ada")
    assert [tag.name for tag in book.tags.all()] == ["logic"]
    ada = models.Author.objects.get(name="Ada")
    assert [author.name for author in ada.students.all()] == ["Alan"]
    assert [author.name for author in ada.followers.all()] == ["Alan"]
    assert book.author.profile.biography == "Long"


def test_relations__made_with_django__are_sqlalchemys_in_both_directions(database: str, api: Api) -> None:
    ada, alan = models.Author.objects.create(name="Ada"), models.Author.objects.create(name="Alan")
    ada.friends.add(alan)
    book = models.Book.objects.create(title="Machines", author=alan)
    book.tags.create(name="logic")
    models.Loan.objects.create(book=book, reader=ada, lender=alan, since=datetime.date(2026, 11, 24))
    novel = models.Novel.objects.get()
    tag = models.Tag.objects.get()
    models.Review.objects.create(novel=novel, tag=tag, archived=tag)
    models.Restaurant.objects.create(name="Chez Ada", stars=2)

    async def read(statement: sa.Select[Any]) -> Any:
        async with api.session() as session:
            return (await session.scalars(statement)).one()

    read_book = api.run(
        read(
            sa.select(tables.Book).options(
                selectinload(tables.Book.author).selectinload(tables.Author.friends),
                selectinload(tables.Book.readers),
                selectinload(tables.Book.loans).selectinload(tables.Loan.lender),
                selectinload(tables.Book.review_set).selectinload(tables.Review.tag),
            )
        )
    )
    assert [friend.name for friend in read_book.author.friends] == ["Ada"]
    assert [reader.name for reader in read_book.readers] == ["Ada"]
    assert [loan.lender.name for loan in read_book.loans] == ["Alan"]
    assert [review.tag.name for review in read_book.review_set] == ["logic"]
    read_tag = api.run(
        read(sa.select(tables.Tag).options(selectinload(tables.Tag.books), selectinload(tables.Tag.archive)))
    )
    assert ([book.title for book in read_tag.books], len(read_tag.archive)) == (["Machines"], 1)
    restaurant = api.run(read(sa.select(tables.Restaurant).options(selectinload(tables.Restaurant.place_ptr))))
    assert (restaurant.place_ptr.name, restaurant.stars) == ("Chez Ada", 2)


def test_relation__not_asked_for__says_so_instead_of_loading(database: str, api: Api) -> None:
    models.Author.objects.create(name="Ada")

    async def read() -> tables.Author:
        async with api.session() as session:
            return (await session.scalars(sa.select(tables.Author))).one()

    author = api.run(read())

    with pytest.raises(InvalidRequestError, match=r"'Author\.books' is not available due to lazy='raise'"):
        _ = author.books


def test_columns_left_out__by_sqlalchemy__are_filled_as_by_django(database: str, api: Api) -> None:
    by_django = models.Filled.objects.create()
    (made,) = api.execute(sa.insert(tables.Filled).returning(tables.Filled.id), [{}])
    by_sqlalchemy = models.Filled.objects.get(pk=made.id)

    # Django's own instance holds its Python default, which the database's would not win against.
    assert (by_sqlalchemy.count, by_sqlalchemy.double, by_django.count) == (3, 6, 1)
    for name in ("size", "quotes", "price", "day", "hour", "start", "pause", "ratio", "key", "options"):
        assert getattr(by_sqlalchemy, name) == getattr(by_django, name), name
    assert bytes(by_sqlalchemy.blob) == by_django.blob
    assert by_sqlalchemy.token != by_django.token
    for name in ("created_at", "updated_at", "seen_at", "made_at"):
        assert abs(getattr(by_sqlalchemy, name) - by_django.created_at) < datetime.timedelta(minutes=1), name
    assert by_sqlalchemy.touched_on == by_sqlalchemy.seen_on == by_django.touched_on


def test_update__by_sqlalchemy__moves_what_djangos_save_moves(database: str, api: Api) -> None:
    before = models.Filled.objects.create()

    async def change() -> int | None:
        async with api.session() as session:
            filled = (await session.scalars(sa.select(tables.Filled))).one()
            filled.count = 10
            await session.commit()
            return filled.double  # Computed by the database, and here without another query.

    assert api.run(change()) == 20
    after = models.Filled.objects.get()
    assert after.updated_at > before.updated_at
    assert after.created_at == before.created_at


def test_keys__composite_natural_and_random__are_written_and_read(database: str, api: Api) -> None:
    api.execute(sa.insert(tables.Seat), [{"row": "B", "number": 7}])
    api.execute(sa.insert(tables.Identified), [{}])
    (small,) = api.execute(sa.insert(tables.Small).returning(tables.Small.id), [{}])
    (medium,) = api.execute(sa.insert(tables.Medium).returning(tables.Medium.id), [{}])
    api.execute(sa.insert(tables.Numbered), [{"number": 5, "small_id": small.id, "medium_id": medium.id}])

    assert models.Seat.objects.get(pk=("B", 7)).is_taken is False
    assert models.Identified.objects.count() == 1
    assert models.Numbered.objects.get().medium_id == medium.id


def test_deletion__rule_of_the_database__binds_sqlalchemy_too(database: str, api: Api) -> None:
    small = models.Small.objects.create()
    medium = models.Medium.objects.create()
    models.Numbered.objects.create(number=1, small=small, medium=medium)

    api.execute(sa.delete(tables.Small))

    assert not models.Numbered.objects.exists()


def test_foreign_key__to_nothing__is_refused(database: str, api: Api) -> None:
    with pytest.raises(IntegrityError):
        api.execute(sa.insert(tables.Profile), [{"author_id": 404, "biography": ""}])


def test_names__taken_by_others__are_written_with_an_underscore(database: str, api: Api) -> None:
    tag = models.Tag.objects.create(name="odd")
    moment = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
    api.execute(
        sa.insert(tables.Awkward),
        [{"class": "a", "metadata": "b", "datetime": moment, "when later": moment, "registry_id": tag.pk}],
    )

    (row,) = models.Awkward.objects.values_list("class", "metadata", "datetime", "later", "registry")
    assert row == ("a", "b", moment, moment, tag.pk)
    awkward = tables.Awkward
    assert api.execute(sa.select(awkward.class_, awkward.metadata_, awkward.datetime_, awkward.registry_id)) == [
        ("a", "b", moment, tag.pk)
    ]


@pytest.mark.parametrize(
    ("row", "constraint"),
    [
        ({"high": 6}, tables.CONSTRAINED_NAME_KIND),
        ({"name": "Other", "low": 2, "is_open": True}, tables.CONSTRAINED_ONE_OPEN),
        ({"name": "FIRST", "low": 2, "sort": "small"}, tables.CONSTRAINED_LOWER_NAME),
        ({"name": "Other", "low": 9, "sort": "small"}, tables.CONSTRAINED_IN_ORDER),
    ],
)
def test_violates__error_of_a_named_constraint__is_that_ones_alone(
    database: str, api: Api, row: dict[str, object], constraint: sa.UniqueConstraint | sa.CheckConstraint | sa.Index
) -> None:
    first = {"name": "First", "sort": "large", "is_open": True, "low": 1, "high": 5}
    api.execute(sa.insert(tables.Constrained), [first])
    row = {**first, "is_open": False, "low": 3, **row}

    with pytest.raises(IntegrityError) as caught:
        api.execute(sa.insert(tables.Constrained), [row])

    named = (
        tables.CONSTRAINED_NAME_KIND,
        tables.CONSTRAINED_ONE_OPEN,
        tables.CONSTRAINED_LOWER_NAME,
        tables.CONSTRAINED_IN_ORDER,
    )
    assert [one.name for one in named if violates(caught.value, one)] == [constraint.name]
