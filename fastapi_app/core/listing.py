"""Lists, a page at a time: every order and every filter that is offered is one statement, served by an index.

A resource declares what its list offers::

    _LISTING = Listing(
        OrderQuery,
        Order.id,
        _SHOWN,
        orders={"placed_at": Moment(Order.placed_at), "number": Text(Order.number, unique=True)},
        ranges=[Range("placed_at", since="placed_from", before="placed_before")],
        filters={"is_paid": Flag(Order.is_paid, rare=False), "customer_id": Equal(Order.customer_id)},
        unique={"number": Order.number},
        search=(Order.number,),
    )

Everything but the first three may be left out: a list by id, without filters, is a ``Listing`` too.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    String,
    UnaryExpression,
    and_,
    bindparam,
    false,
    func,
    not_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.sql.visitors import iterate

from fastapi_app.core.database import Executor
from fastapi_app.core.errors import InvalidParameter
from fastapi_app.core.indexes import Index
from fastapi_app.core.ordering import LAST_CHARACTER, bytewise, moment
from fastapi_app.core.pagination import MAXIMUM_ID, PageOf, PageQuery, Place
from fastapi_app.core.statements import Row, Statement

EARLIEST = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
LATEST = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)
"""The moments between which a list is narrowed: every database and every time zone knows them."""
_FIRST = datetime.datetime.min.replace(microsecond=1, tzinfo=datetime.UTC)
_LAST = datetime.datetime.max.replace(microsecond=999998, tzinfo=datetime.UTC)
"""The moments between which all rows are: the ones beyond are infinity to asyncpg."""

_LIMIT = bindparam("limit", type_=BigInteger())
_AFTER_ID = bindparam("after_id", type_=BigInteger())


@dataclass(frozen=True, slots=True)
class Text:
    """An order by a text, byte by byte, and then by id. ``unique``: no two rows share it, and none is empty."""

    column: Any
    unique: bool = False

    @property
    def key(self) -> ColumnElement[str]:
        return bytewise(self.column)

    @property
    def is_unique(self) -> bool:
        return self.unique

    @property
    def bounds(self) -> tuple[str, str]:
        return "", LAST_CHARACTER

    def written(self, value: str) -> str:
        return value

    def read(self, written: str | int) -> str:
        return str(written)


@dataclass(frozen=True, slots=True)
class Moment:
    """An order by a moment in time, and then by id."""

    column: Any

    @property
    def key(self) -> ColumnElement[datetime.datetime]:
        return moment(self.column)

    @property
    def is_unique(self) -> bool:
        return False

    @property
    def bounds(self) -> tuple[datetime.datetime, datetime.datetime]:
        return _FIRST, _LAST

    def written(self, value: datetime.datetime) -> str:
        return value.isoformat()

    def read(self, written: str | int) -> datetime.datetime:
        return datetime.datetime.fromisoformat(str(written))


@dataclass(frozen=True, slots=True)
class Number:
    """An order by a whole number below 2**63 - 1, and then by id."""

    column: Any

    @property
    def key(self) -> ColumnElement[int]:
        key: ColumnElement[int] = self.column
        return key

    @property
    def is_unique(self) -> bool:
        return False

    @property
    def bounds(self) -> tuple[int, int]:
        return -MAXIMUM_ID - 1, MAXIMUM_ID

    def written(self, value: int) -> int:
        return value

    def read(self, written: str | int) -> int:
        return int(written)


type Order = Text | Moment | Number
"""What a list is sorted by.

``key`` is the expression that both databases sort alike, and that an index of the model is made of; ``bounds`` are the
lowest value and the highest; ``written`` and ``read`` are how a cursor carries a value.
"""


@dataclass(frozen=True, slots=True)
class Range:
    """Narrows a list to a part of one of its orders, from ``since`` on and below ``before``, and sorts it by that."""

    order: str
    since: str
    before: str

    def of(self, query: Any) -> tuple[Any, Any]:
        """The two bounds that ``query`` gives; None where it gives none."""
        return getattr(query, self.since), getattr(query, self.before)


@dataclass(frozen=True, slots=True)
class Flag:
    """Narrows a list by a boolean.

    The ``rare`` value needs an index for each order that has it as the condition. Rows with the other value are found
    by the order's own index, past the few that are not shown; without a rare value, all rows are found so.
    """

    column: Any
    rare: bool | None = None

    def conditions(self, name: str) -> Mapping[Any, ColumnElement[bool]]:
        """The values that a query may give, and the condition of each."""
        return {True: self.column.is_(True), False: self.column == False}  # noqa: E712  As the indexes have it.

    def index(self, order: Sequence[ColumnElement[Any]]) -> Index | None:
        """The index that serves the rare value in an order."""
        return None if self.rare is None else Index(tuple(order), where=self.column == self.rare)


_GIVEN = object()
"""Stands for any value of a filter whose values are not known beforehand."""


@dataclass(frozen=True, slots=True)
class Equal:
    """Narrows a list to the rows with one value of a column; it needs an index of the column and each order."""

    column: Any

    def conditions(self, name: str) -> Mapping[Any, ColumnElement[bool]]:
        """The one condition: that the column has the value which is given."""
        return {_GIVEN: self.column == bindparam(f"filter_{name}", type_=self.column.type)}

    def index(self, order: Sequence[ColumnElement[Any]]) -> Index:
        """The index that serves the filter in an order."""
        return Index((self.column, *order))


type Filter = Flag | Equal
type _Chosen = tuple[Any, ...]
"""For each filter in turn: None, a flag's value, or ``_GIVEN``."""


class Listing:
    """What a resource's list offers, and its statements.

    Args:
        query: the query of the list. It has a field for each filter, bound and ``unique`` parameter, ``sort`` if there
            are ``orders``, and ``search`` if there is a search.
        id_: the column of the primary key, an integer. It is an order too, and the default one.
        shown: the columns that a page shows.
        orders: what the list can be sorted by, by the name that ``sort`` gives it.
        ranges: parts of an order that the list can be narrowed to.
        filters: what else it can be narrowed by; several together are the conditions of one statement.
        unique: parameters whose value finds one row at most, and the columns they are looked up in.
        search: texts whose beginning is looked for, whatever the case of ASCII letters: a column in lower case, or
            ``func.lower`` of one.

    Raises:
        MissingIndex: no index of the table serves an order, a filter, a unique parameter or a search.
        ValueError: the query has no field of that name, or the column of an order may be null.
    """

    def __init__(  # noqa: PLR0913  It is a declaration, whose parts have names.
        self,
        query: type[PageQuery],
        id_: Any,
        shown: Sequence[Any],
        *,
        orders: Mapping[str, Order] | None = None,
        ranges: Sequence[Range] = (),
        filters: Mapping[str, Filter] | None = None,
        unique: Mapping[str, Any] | None = None,
        search: Sequence[Any] = (),
    ) -> None:
        self._name = query.__name__
        self._id, self._shown = id_, tuple(shown)
        self._orders, self._filters, self._unique = dict(orders or {}), dict(filters or {}), dict(unique or {})
        self._ranges, self._search = tuple(ranges), tuple(search)
        self._is_ranged = {one.order for one in ranges}
        self._equal = [name for name, one in self._filters.items() if isinstance(one, Equal)]
        self._require_fields(query)
        self._require_indexes()
        nothing = (None,) * len(self._filters)
        self._pages: dict[tuple[str, bool, _Chosen], Statement] = {}
        self._searches: dict[_Chosen, Statement] = {}
        # Those with one filter at most are compiled now, so that a fault shows at import; combinations when asked for.
        for chosen in (nothing, *self._alone(nothing)):
            for by, descending in product(("id", *self._orders), (False, True)):
                self._page_statement(by, chosen, descending=descending)
            if self._search:
                self._search_statement(chosen)
        self._lookups = {name: self._lookup(column) for name, column in self._unique.items()}

    # What must be there

    def _require_fields(self, query: type[PageQuery]) -> None:
        bounds = chain.from_iterable((one.since, one.before) for one in self._ranges)
        names = [*self._filters, *self._unique, *bounds]
        names += ["sort"] * bool(self._orders) + ["search"] * bool(self._search)
        if missing := [name for name in names if name not in query.model_fields]:
            raise ValueError(f"{self._name} has no field {', '.join(missing)}")
        if unknown := self._is_ranged - self._orders.keys():
            raise ValueError(f"a range of {self._name} is of no order: {', '.join(sorted(unknown))}")
        if exclusive := [name for name in sorted(self._is_ranged) if self._orders[name].is_unique]:
            # Its index has no id, so a page would begin behind the row that has the first bound's value.
            raise ValueError(f"a range of {self._name} is by a unique text: {', '.join(exclusive)}")
        if nullable := [name for name, order in self._orders.items() if getattr(order.column, "nullable", False)]:
            raise ValueError(f"the order {', '.join(nullable)} of {self._name} is by a column that may be null")

    def _require_indexes(self) -> None:
        keys = {by: self._key(by) for by in ("id", *self._orders)}
        for needed in (
            *(Index(tuple(keys[by])) for by in self._orders),
            *(one.index(key) for one in self._filters.values() for key in keys.values()),
            *(Index((bytewise(text), self._id)) for text in self._search),
            *(Index((column,), is_unique=True) for column in self._unique.values()),
        ):
            if needed is not None:
                needed.require(self._id.table, whose=self._name)

    # Statements

    def _alone(self, nothing: _Chosen) -> list[_Chosen]:
        """Each filter with each of its values, and none besides."""
        return [
            (*nothing[:place], value, *nothing[place + 1 :])
            for place, (name, one) in enumerate(self._filters.items())
            for value in one.conditions(name)
        ]

    def _conditions(self, chosen: _Chosen) -> list[ColumnElement[bool]]:
        return [
            one.conditions(name)[value]
            for (name, one), value in zip(self._filters.items(), chosen, strict=True)
            if value is not None
        ]

    def _key(self, by: str) -> list[ColumnElement[Any]]:
        """What an order sorts by, the first first."""
        if by == "id":
            return [self._id]
        order = self._orders[by]
        return [order.key] if order.is_unique else [order.key, self._id]

    def _page_statement(self, by: str, chosen: _Chosen, *, descending: bool) -> Statement:
        found = self._pages.get((by, descending, chosen))
        if found is None:
            found = self._pages[by, descending, chosen] = self._page_of(by, chosen, descending=descending)
        return found

    def _page_of(self, by: str, chosen: _Chosen, *, descending: bool) -> Statement:
        columns = self._key(by)
        place = [_AFTER_ID] if by == "id" else [bindparam("after", type_=columns[0].type), _AFTER_ID][: len(columns)]
        key, after = tuple_(*columns), tuple_(*place)
        conditions = [key < after if descending else key > after, *self._conditions(chosen)]
        if by in self._is_ranged:  # From one bound, which the place begins with, to the other.
            until = bindparam("until", type_=columns[0].type)
            conditions.append(until <= columns[0] if descending else until > columns[0])
        order = [column.desc() if descending else column for column in columns]
        return Statement(select(*self._shown).where(*conditions).order_by(*order).limit(_LIMIT))

    def _search_statement(self, chosen: _Chosen) -> Statement:
        found = self._searches.get(chosen)
        if found is None:
            found = self._searches[chosen] = self._search_of(self._conditions(chosen))
        return found

    def _search_of(self, conditions: Sequence[ColumnElement[bool]]) -> Statement:
        """The rows of which a text begins with ``prefix``, by what matched: a range of each text's index, merged."""
        prefix = func.lower(bindparam("prefix", type_=String()))
        beyond = prefix + LAST_CHARACTER
        after = tuple_(func.lower(bindparam("after", type_=String())), _AFTER_ID)
        parts, found_before = list[Any](), list[ColumnElement[bool]]()
        for text in self._search:
            match = bytewise(text)
            part = (
                select(*self._shown, match.label("match"))
                .where(tuple_(match, self._id) > after, match < beyond, *found_before, *conditions)
                .order_by(match, self._id)
                .limit(_LIMIT)
            )
            parts.append(select(part.subquery()))
            is_found: ColumnElement[bool] = and_(prefix <= match, beyond > match)
            if _may_be_null(text):  # Null has no beginning.
                is_found = func.coalesce(is_found, false())
            found_before.append(not_(is_found))
        merged = union_all(*parts).subquery()
        order: list[UnaryExpression[Any] | ColumnElement[Any]] = [bytewise(merged.c.match), merged.c[self._id.key]]
        return Statement(select(merged).order_by(*order).limit(_LIMIT))

    def _lookup(self, column: Any) -> Statement:
        """The row with a value of ``column``, if what else is asked for holds; null asks for nothing."""
        filters = [_equals_if_given(name, one) for name, one in self._filters.items()]
        bounds = []
        for one in self._ranges:
            key = self._orders[one.order].key
            bounds.append(bindparam(one.since, type_=key.type) <= key)
            bounds.append(bindparam(one.before, type_=key.type) > key)
        return Statement(select(*self._shown).where(column == bindparam("value"), *filters, *bounds))

    # A page

    async def page(self, database: Executor, query: Any) -> PageOf:
        """The page that ``query`` asks for.

        Raises:
            InvalidParameter: it asks for an unknown order or for a combination that no index serves, or its cursor is
                of another list.
        """
        if self._search and query.search is not None:
            return await self._found(database, query)
        for name, statement in self._lookups.items():
            if (value := getattr(query, name)) is not None:
                return await self._looked_up(database, query, statement, value)
        by, descending, (since, before) = self._order(query)
        chosen, given = self._chosen(query)
        place = self._place(query, by, since, before, descending=descending)
        statement = self._page_statement(by, chosen, descending=descending)
        rows = await database.fetch_all(statement, **given, **place, limit=query.limit + 1)
        return PageOf.first_of(rows, query, lambda row: self._place_of(by, row))

    async def after(self, database: Executor, row_id: int, *, limit: int) -> list[Row]:
        """At most ``limit`` rows by id, those that follow ``row_id``; it serves to read all rows in batches."""
        statement = self._pages["id", False, (None,) * len(self._filters)]
        return await database.fetch_all(statement, after_id=row_id, limit=limit)

    async def _found(self, database: Executor, query: Any) -> PageOf:
        bounds = chain.from_iterable((one.since, one.before) for one in self._ranges)
        _refuse_with("search", query, [*self._unique, *bounds, *(["sort"] if self._orders else [])])
        after, after_id = query.place or (query.search, 0)
        chosen, given = self._chosen(query)
        place = {"prefix": query.search, "after": after, "after_id": after_id, "limit": query.limit + 1}
        rows = await database.fetch_all(self._search_statement(chosen), **given, **place)
        return PageOf.first_of(rows, query, lambda row: (row["match"], row[self._id.key]))

    async def _looked_up(self, database: Executor, query: Any, statement: Statement, value: Any) -> PageOf:
        _ = query.place  # There is no second page, so no cursor is valid.
        values = {f"filter_{name}": getattr(query, name) for name in self._filters}
        for one in self._ranges:
            lowest, highest = self._orders[one.order].bounds
            since, before = one.of(query)
            values |= {one.since: lowest if since is None else since, one.before: highest if before is None else before}
        return PageOf(await database.fetch_all(statement, value=value, **values), None)

    def _chosen(self, query: Any) -> tuple[_Chosen, dict[str, Any]]:
        """Which condition of each filter is asked for, and the values that the statement takes with it."""
        asked = {name: getattr(query, name) for name in self._filters}
        given = {f"filter_{name}": asked[name] for name in self._equal if asked[name] is not None}
        for name in given:
            asked[name.removeprefix("filter_")] = _GIVEN
        return tuple(asked.values()), given

    def _order(self, query: Any) -> tuple[str, bool, tuple[Any, Any]]:
        """What the page is sorted by, whether the last come first, and the bounds between which it lies."""
        sort = query.sort if self._orders else None
        by, descending = ("id", False) if sort is None else (sort.removeprefix("-"), sort.startswith("-"))
        if by not in {"id", *self._orders}:
            raise InvalidParameter(
                "sort", f"Sort by {', '.join(('id', *self._orders))}, with a minus for the last first."
            )
        narrowed = [one for one in self._ranges if one.of(query) != (None, None)]
        if not narrowed:
            return by, descending, (None, None)
        first, *others = narrowed
        for other in others:
            _refuse_with(first.since, query, [other.since, other.before])
        if sort is not None and by != first.order:
            raise InvalidParameter("sort", f"With {first.since} or {first.before}, sort by {first.order} only.")
        return first.order, descending, first.of(query)

    def _place(self, query: PageQuery, by: str, since: Any, before: Any, *, descending: bool) -> dict[str, Any]:
        """Where the page begins, and where a range ends, as the order's statement has them."""
        place = query.place
        if by == "id":
            return {"after_id": place[0] if place else MAXIMUM_ID if descending else 0}
        order = self._orders[by]
        lowest, highest = order.bounds
        begin, end = lowest if since is None else since, highest if before is None else before
        after, until = (end, begin) if descending else (begin, end)
        values = {"after": order.read(place[0]) if place else after}
        if not order.is_unique:
            values["after_id"] = place[1] if place else MAXIMUM_ID if descending and before is None else 0
        if by in self._is_ranged:
            values["until"] = until
        return values

    def _place_of(self, by: str, row: Row) -> Place:
        """A row's place in an order, as a cursor carries it."""
        row_id = row[self._id.key]
        if by == "id":
            return (row_id,)
        order = self._orders[by]
        value = order.written(row[order.column.key])
        return (value,) if order.is_unique else (value, row_id)


def _equals_if_given(name: str, one: Filter) -> ColumnElement[bool]:
    column: Any = one.column
    wanted = func.coalesce(bindparam(f"filter_{name}", type_=_type_of(one)), column)
    condition: ColumnElement[bool] = column.is_not_distinct_from(wanted) if _may_be_null(column) else column == wanted
    return condition


def _may_be_null(expression: Any) -> bool:
    """Whether a column, or a column in an expression, may be null."""
    return any(getattr(part, "nullable", False) for part in iterate(expression))


def _type_of(one: Filter) -> Any:
    return Boolean() if isinstance(one, Flag) else one.column.type


def _refuse_with(parameter: str, query: Any, others: Sequence[str]) -> None:
    for other in others:
        if getattr(query, other) is not None:
            raise InvalidParameter(other, f"It does not go together with {parameter}.")
