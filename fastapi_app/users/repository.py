"""The users' statements, and nothing else: no rule."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    String,
    and_,
    bindparam,
    cast,
    func,
    insert,
    not_,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql

from fastapi_app.core.database import INTEGRITY_ERRORS, Executor, violates
from fastapi_app.core.errors import PreconditionFailed
from fastapi_app.core.ordering import LAST_CHARACTER, ExactMoment, bytewise, moment
from fastapi_app.core.statements import Row, Statement
from fastapi_app.core.tables import ACCOUNTS_USER_EMAIL_UNIQUE, User
from fastapi_app.users.errors import EmailTaken

_SHOWN = (
    User.id,
    User.email,
    User.display_name,
    User.is_active,
    User.is_staff,
    User.created_at,
    User.updated_at,
)
_COLUMNS = (*_SHOWN, User.version)
"""Of one user: the version is for the entity tag, which a page has none of."""
_GET = Statement(select(*_COLUMNS).where(User.id == bindparam("user_id")))

# Pages. Each order is an index, and a page is the part of it that follows a place (project/accounts/models.py). Nothing
# is put together at run time: these are all the statements that there are.

_LIMIT = bindparam("limit", type_=BigInteger())
_AFTER_ID = bindparam("after_id", type_=BigInteger())
_IS_ACTIVE: dict[bool | None, tuple[ColumnElement[bool], ...]] = {
    None: (),
    True: (User.is_active.is_(True),),
    False: (User.is_active == False,),  # noqa: E712  As the indexes of the inactive have it.
}
_CREATED, _EMAIL, _NAME = moment(User.created_at), bytewise(User.email), bytewise(func.lower(User.display_name))


_ORDERS: dict[str, tuple[Sequence[Any], Sequence[Any]]] = {
    "id": ([User.id], [_AFTER_ID]),
    "created_at": ([_CREATED, User.id], [bindparam("after", type_=ExactMoment()), _AFTER_ID]),
    "email": ([_EMAIL], [bindparam("after", type_=String())]),
}
"""What each order sorts by, and the place after which a page begins."""
_UNTIL = bindparam("until", type_=ExactMoment())


def _page(by: str, is_active: bool | None, *, descending: bool) -> Statement:
    key, after = (tuple_(*part) for part in _ORDERS[by])
    conditions = [key < after if descending else key > after, *_IS_ACTIVE[is_active]]
    if by == "created_at":  # From one moment, which the place begins with, to another.
        conditions.append(_UNTIL <= _CREATED if descending else _UNTIL > _CREATED)
    columns, _ = _ORDERS[by]
    order = [column.desc() if descending else column for column in columns]
    return Statement(select(*_SHOWN).where(*conditions).order_by(*order).limit(_LIMIT))


_PAGES = {
    (by, descending, is_active): _page(by, is_active, descending=descending)
    for by, descending, is_active in product(_ORDERS, (False, True), _IS_ACTIVE)
}


def _search(*conditions: ColumnElement[bool]) -> Statement:
    """Those whose address or name begins with ``prefix``, by what matched: two ranges, each of an index, merged."""
    prefix = func.lower(bindparam("prefix", type_=String()))
    beyond = prefix + LAST_CHARACTER
    after = tuple_(func.lower(bindparam("after", type_=String())), _AFTER_ID)

    def matching(match: ColumnElement[str], *more: ColumnElement[bool]) -> Any:
        part = (
            select(*_SHOWN, match.label("match"))
            .where(tuple_(match, User.id) > after, match < beyond, *more, *conditions)
            .order_by(match, User.id)
            .limit(_LIMIT)
        )
        return select(part.subquery())

    both = union_all(matching(_EMAIL), matching(_NAME, not_(and_(prefix <= _EMAIL, beyond > _EMAIL)))).subquery()
    return Statement(select(both).order_by(bytewise(both.c.match), both.c.id).limit(_LIMIT))


_SEARCHES = {is_active: _search(*conditions) for is_active, conditions in _IS_ACTIVE.items()}
_WITH_EMAIL = Statement(
    select(*_SHOWN).where(
        User.email == bindparam("email"),
        User.is_active == func.coalesce(bindparam("is_active", type_=Boolean()), User.is_active),
        bindparam("created_from", type_=ExactMoment()) <= _CREATED,
        bindparam("created_before", type_=ExactMoment()) > _CREATED,
    )
)

# Changes

_INSERT = Statement(
    insert(User).values(email=bindparam("email"), display_name=bindparam("display_name")).returning(*_COLUMNS)
)
# No column here can be null, so null stands for "as it is".
_CHANGEABLE = (User.email, User.display_name, User.is_active)
_change = (
    update(User)
    .where(User.id == bindparam("user_id"))
    .values(
        {column: func.coalesce(bindparam(f"new_{column.key}", type_=column.type), column) for column in _CHANGEABLE}
    )
    .returning(*_COLUMNS)
)
_UPDATE = Statement(_change)
# ``versions`` is ",7,8,": a list that both databases can look into, in the UPDATE itself.
_UPDATE_VERSIONS = Statement(
    _change.where(bindparam("versions", type_=String()).contains("," + cast(User.version, String()) + ","))
)

MANY = 100
"""Rows of one INSERT of ``add_all``."""


def _insert_some(count: int) -> Statement:
    """Insert ``count`` users, and answer with those whose address was not taken."""
    rows: list[dict[Any, Any]] = [
        {"email": bindparam(f"email_{n}"), "display_name": bindparam(f"display_name_{n}")} for n in range(count)
    ]
    return Statement(postgresql.insert(User).values(rows).on_conflict_do_nothing().returning(User.email))


_INSERT_SOME = {count: _insert_some(count) for count in (1, MANY)}


class UserRepository:
    """Reads and writes users, in the database itself or in a transaction that somebody else will commit."""

    def __init__(self, database: Executor) -> None:
        self._database = database

    async def get(self, user_id: int) -> Row | None:
        return await self._database.fetch_one(_GET, user_id=user_id)

    async def page(
        self, by: str, place: Mapping[str, Any], *, limit: int, descending: bool = False, is_active: bool | None = None
    ) -> list[Row]:
        """At most ``limit`` users that follow ``place`` in an order: ``id``, ``created_at`` or ``email``.

        A place is ``after_id``; or ``after`` and ``after_id``, up to ``until``; or ``after``.
        """
        return await self._database.fetch_all(_PAGES[by, descending, is_active], **place, limit=limit)

    async def search(self, prefix: str, place: Mapping[str, Any], *, limit: int, is_active: bool | None) -> list[Row]:
        """At most ``limit`` users whose address or name begins so, whatever the case, with what matched as ``match``.

        They are in the order of ``match`` and ``id``; a place is ``after`` and ``after_id``.
        """
        return await self._database.fetch_all(_SEARCHES[is_active], prefix=prefix, **place, limit=limit)

    async def with_email(self, email: str, **conditions: Any) -> list[Row]:
        """The user with an address, if ``is_active`` (None is either) and ``created_from``, ``created_before`` hold."""
        return await self._database.fetch_all(_WITH_EMAIL, email=email, **conditions)

    async def add(self, *, email: str, display_name: str) -> Row:
        """Insert a user with no usable password. Raises EmailTaken when another user has the address."""
        (user,) = await self._write(_INSERT, email=email, display_name=display_name)
        return user

    async def add_all(self, users: Sequence[Mapping[str, str]]) -> set[str]:
        """Insert users; the addresses among theirs that another user has already, who are left out."""
        taken = set[str]()
        for some in _in_parts(users):
            values = {f"{name}_{n}": value for n, user in enumerate(some) for name, value in user.items()}
            added = await self._database.fetch_all(_INSERT_SOME[len(some)], **values)
            taken |= {user["email"] for user in some} - {user["email"] for user in added}
        return taken

    async def change(
        self,
        user_id: int,
        *,
        versions: frozenset[int] | None = None,
        email: str | None = None,
        display_name: str | None = None,
        is_active: bool | None = None,
    ) -> Row | None:
        """The user after the change, or None when there is no such user; ``versions`` are those it may begin from.

        Raises:
            EmailTaken: as ``add`` does.
            PreconditionFailed: the user has another version.
        """
        values = {"user_id": user_id, "new_email": email, "new_display_name": display_name, "new_is_active": is_active}
        if versions is None:
            users = await self._write(_UPDATE, **values)
        else:
            users = await self._write(_UPDATE_VERSIONS, **values, versions=f",{','.join(map(str, versions))},")
            if not users and await self.get(user_id) is not None:
                raise PreconditionFailed
        return users[0] if users else None

    async def _write(self, statement: Statement, **values: object) -> list[Row]:
        try:
            return await self._database.fetch_all(statement, **values)
        except INTEGRITY_ERRORS as error:
            if violates(error, ACCOUNTS_USER_EMAIL_UNIQUE):
                raise EmailTaken from error
            raise


def _in_parts[T](rows: Sequence[T]) -> Iterable[Sequence[T]]:
    """Parts of ``MANY``, and what is left one by one."""
    whole = len(rows) - len(rows) % MANY
    yield from (rows[begin : begin + MANY] for begin in range(0, whole, MANY))
    yield from ((row,) for row in rows[whole:])
