"""The users' use cases. Each but the import is one statement, which is a transaction of its own."""

import datetime
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from fastapi_app.core.database import Executor
from fastapi_app.core.errors import InvalidParameter
from fastapi_app.core.ordering import LAST_CHARACTER
from fastapi_app.core.pagination import MAXIMUM_ID, PageOf, Place
from fastapi_app.core.rows import Faults, Lined
from fastapi_app.core.statements import Row
from fastapi_app.users.errors import UserNotFound
from fastapi_app.users.repository import UserRepository
from fastapi_app.users.schemas import EARLIEST, LATEST, UserCreate, UserQuery, UserSort, UserUpdate

MAXIMUM_IMPORT_ROWS = 10_000
EXPORT_BATCH = 500
"""Rows that an export holds at once."""


class UserService:
    """What can be asked and done about users."""

    def __init__(self, database: Executor) -> None:
        self._database = database
        self._users = UserRepository(database)

    async def get(self, user_id: int) -> Row:
        """One user. Raises UserNotFound."""
        return _found(await self._users.get(user_id))

    async def page(self, query: UserQuery) -> PageOf:
        """A page of the users that ``query`` asks for. Raises InvalidParameter: it asks for what no index serves."""
        if query.search is not None:
            return await self._search(query, query.search)
        if query.email is not None:
            return await self._with_email(query, query.email)
        by, descending = _order(query)
        rows = await self._users.page(
            by,
            _place(query, by, descending=descending),
            limit=query.limit + 1,
            descending=descending,
            is_active=query.is_active,
        )
        return PageOf.first_of(rows, query, _PLACES[by])

    async def _search(self, query: UserQuery, prefix: str) -> PageOf:
        _refuse_with("search", query, "email", "created_from", "created_before", "sort")
        after, after_id = query.place or (prefix, 0)
        place = {"after": after, "after_id": after_id}
        rows = await self._users.search(prefix, place, limit=query.limit + 1, is_active=query.is_active)
        return PageOf.first_of(rows, query, lambda row: (row["match"], row["id"]))

    async def _with_email(self, query: UserQuery, email: str) -> PageOf:
        _ = query.place  # There is no second page, so no cursor is good.
        rows = await self._users.with_email(
            email,
            is_active=query.is_active,
            created_from=query.created_from or EARLIEST,
            created_before=query.created_before or LATEST,
        )
        return PageOf(rows, None)

    async def create(self, new: UserCreate) -> Row:
        """A new user without a password. Raises EmailTaken."""
        return await self._users.add(email=new.email, display_name=new.display_name)

    async def change(self, user_id: int, changes: UserUpdate, versions: frozenset[int] | None = None) -> Row:
        """The user with the changes made. Raises UserNotFound, EmailTaken, PreconditionFailed."""
        return _found(await self._users.change(user_id, versions=versions, **changes.model_dump()))

    async def deactivate(self, user_id: int, versions: frozenset[int] | None = None) -> None:
        """Keep the user, and what belongs to them, but let them in no more. Raises UserNotFound, PreconditionFailed."""
        _found(await self._users.change(user_id, versions=versions, is_active=False))

    async def import_all(self, rows: Sequence[Lined[UserCreate]], faults: Faults) -> int:
        """Create the users of a file, all of them or none; how many that are.

        Raises:
            InvalidRows: ``faults`` has some already, or an address appears twice or is taken.
        """
        lines = dict[str, int]()
        for one in rows:
            if (first := lines.setdefault(one.row.email, one.line)) != one.line:
                faults.add(one.line, f"Line {first} has the same e-mail address.", "#/email")
        new = {one.row.email: one.row.model_dump() for one in reversed(rows)}
        async with self._database.transaction() as transaction:
            for email in await UserRepository(transaction).add_all([new[email] for email in lines]):
                faults.add(lines[email], "A user with this e-mail address exists already.", "#/email")
            faults.raise_any()
            await transaction.commit()
        return len(rows)

    async def batches(self) -> AsyncIterator[Sequence[Row]]:
        """Every user, by id, some at a time: those who come and go meanwhile are in it or not, and nobody twice."""
        after = 0
        while rows := await self._users.page("id", {"after_id": after}, limit=EXPORT_BATCH):
            yield rows
            after = rows[-1]["id"]


_PLACES: Mapping[str, Any] = {
    "id": lambda row: (row["id"],),
    "created_at": lambda row: (row["created_at"].isoformat(), row["id"]),
    "email": lambda row: (row["email"],),
}
"""A row's place in each order, as a cursor carries it."""


def _order(query: UserQuery) -> tuple[str, bool]:
    """By what to sort, and whether the last come first."""
    sort = query.sort
    if query.created_from is not None or query.created_before is not None:
        if sort is not None and sort.lstrip("-") != "created_at":
            raise InvalidParameter("sort", "With created_from or created_before, users are sorted by created_at only.")
        sort = sort or UserSort.CREATED
    return ("id", False) if sort is None else (sort.lstrip("-"), sort.startswith("-"))


def _place(query: UserQuery, by: str, *, descending: bool) -> dict[str, Any]:
    """Where the page begins, as the order's statement has it."""
    place = query.place
    match by:
        case "id":
            return {"after_id": place[0] if place else MAXIMUM_ID if descending else 0}
        case "email":
            return {"after": place[0] if place else LAST_CHARACTER if descending else ""}
        case _:
            begin, end = query.created_from or EARLIEST, query.created_before or LATEST
            after, until = (end, begin) if descending else (begin, end)
            return {"after": _moment(place) if place else after, "after_id": place[1] if place else 0, "until": until}


def _moment(place: Place) -> datetime.datetime:
    return datetime.datetime.fromisoformat(str(place[0]))


def _refuse_with(parameter: str, query: UserQuery, *others: str) -> None:
    for other in others:
        if getattr(query, other) is not None:
            raise InvalidParameter(other, f"It does not go together with {parameter}.")


def _found(user: Row | None) -> Row:
    if user is None:
        raise UserNotFound
    return user
