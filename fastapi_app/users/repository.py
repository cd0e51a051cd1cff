"""The users' statements, and nothing else: no commit, no rule."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Result, Row, bindparam, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.selectable import TypedReturnsRows

from fastapi_app.core.database import violates
from fastapi_app.core.tables import ACCOUNTS_USER_EMAIL_UNIQUE, User
from fastapi_app.users.errors import EmailTaken

type UserRow = Row[int, str, str, bool, bool, datetime.datetime, datetime.datetime]

_COLUMNS = (
    User.id,
    User.email,
    User.display_name,
    User.is_active,
    User.is_staff,
    User.created_at,
    User.updated_at,
)
_GET = select(*_COLUMNS).where(User.id == bindparam("user_id"))
_PAGE = select(*_COLUMNS).where(User.id > bindparam("after")).order_by(User.id).limit(bindparam("limit"))
_INSERT = insert(User).returning(*_COLUMNS)
# No column here can be null, so null stands for "as it is".
_CHANGEABLE = (User.email, User.display_name, User.is_active)
_UPDATE = (
    update(User)
    .where(User.id == bindparam("user_id"))
    .values(
        {column: func.coalesce(bindparam(f"new_{column.key}", type_=column.type), column) for column in _CHANGEABLE}
    )
    .returning(*_COLUMNS)
    .execution_options(synchronize_session=False)
)


class UserRepository:
    """Reads and writes users in a session that somebody else opened and will commit."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, user_id: int) -> UserRow | None:
        return (await self._session.execute(_GET, {"user_id": user_id})).one_or_none()

    async def page(self, *, after: int, limit: int) -> Sequence[UserRow]:
        """At most ``limit`` users with an id above ``after``, by id."""
        return (await self._session.execute(_PAGE, {"after": after, "limit": limit})).all()

    async def add(self, *, email: str, display_name: str) -> UserRow:
        """Insert a user with no usable password. Raises EmailTaken when another user has the address."""
        return (await self._write(_INSERT, {"email": email, "display_name": display_name})).one()

    async def change(
        self, user_id: int, *, email: str | None = None, display_name: str | None = None, is_active: bool | None = None
    ) -> UserRow | None:
        """The user after the change, or None when there is no such user. Raises EmailTaken as ``add`` does."""
        new = {"new_email": email, "new_display_name": display_name, "new_is_active": is_active}
        return (await self._write(_UPDATE, {"user_id": user_id, **new})).one_or_none()

    async def _write[*Columns](
        self, statement: TypedReturnsRows[*Columns], values: Mapping[str, Any]
    ) -> Result[*Columns]:
        try:
            return await self._session.execute(statement, values)
        except IntegrityError as error:
            if violates(error, ACCOUNTS_USER_EMAIL_UNIQUE):
                raise EmailTaken from error
            raise
