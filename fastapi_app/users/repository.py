"""The users' statements, and nothing else: no rule."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, func, insert, select

from fastapi_app.core.changes import Change, InsertMany, translated
from fastapi_app.core.database import Executor
from fastapi_app.core.listing import Flag, Listing, Moment, Range, Text
from fastapi_app.core.pagination import PageOf
from fastapi_app.core.statements import Row, Statement
from fastapi_app.core.tables import ACCOUNTS_USER_EMAIL_UNIQUE, User
from fastapi_app.users.errors import EmailTaken
from fastapi_app.users.schemas import UserQuery

_SHOWN = (
    User.id, User.email, User.display_name, User.is_active, User.is_staff, User.created_at, User.updated_at,
)  # fmt: skip
_COLUMNS = (*_SHOWN, User.version)
"""Of one user: the version is for the entity tag, which a page has none of."""

_GET = Statement(select(*_COLUMNS).where(User.id == bindparam("user_id")))
_INSERT = Statement(
    insert(User).values(email=bindparam("email"), display_name=bindparam("display_name")).returning(*_COLUMNS)
)
_INSERT_MANY = InsertMany(User, (User.email, User.display_name), unique=User.email)
_CHANGE = Change(User, (User.email, User.display_name, User.is_active), returning=_COLUMNS)
_LISTING = Listing(
    UserQuery,
    User.id,
    _SHOWN,
    orders={"created_at": Moment(User.created_at), "email": Text(User.email, unique=True)},
    ranges=[Range("created_at", since="created_from", before="created_before")],
    filters={"is_active": Flag(User.is_active, rare=False)},
    unique={"email": User.email},
    search=(User.email, func.lower(User.display_name)),
)
_email_taken = translated({ACCOUNTS_USER_EMAIL_UNIQUE: EmailTaken})


class UserRepository:
    """Reads and writes users, in the database itself or in a transaction that the service commits."""

    def __init__(self, database: Executor) -> None:
        self._database = database

    async def get(self, user_id: int) -> Row | None:
        return await self._database.fetch_one(_GET, user_id=user_id)

    async def page(self, query: UserQuery) -> PageOf:
        """The page that ``query`` asks for. Raises InvalidParameter."""
        return await _LISTING.page(self._database, query)

    async def after(self, user_id: int, *, limit: int) -> list[Row]:
        """At most ``limit`` users by id, those that follow ``user_id``."""
        return await _LISTING.after(self._database, user_id, limit=limit)

    async def add(self, *, email: str, display_name: str) -> Row:
        """Insert a user with no usable password. Raises EmailTaken when another user has the address."""
        with _email_taken():
            (user,) = await self._database.fetch_all(_INSERT, email=email, display_name=display_name)
        return user

    async def add_all(self, users: Sequence[Mapping[str, str]]) -> set[str]:
        """Insert users; the addresses among theirs that another user has already, who are left out."""
        return await _INSERT_MANY.run(self._database, users)

    async def change(self, user_id: int, changes: Mapping[str, Any], versions: frozenset[int] | None) -> Row | None:
        """The user after the change, or None when there is no such user. Raises EmailTaken, PreconditionFailed."""
        with _email_taken():
            return await _CHANGE.run(self._database, user_id, changes, versions=versions)
