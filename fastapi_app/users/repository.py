"""The users' statements, and nothing else: no rule."""

from sqlalchemy import bindparam, func, insert, select, update

from fastapi_app.core.database import INTEGRITY_ERRORS, Executor, violates
from fastapi_app.core.statements import Row, Statement
from fastapi_app.core.tables import ACCOUNTS_USER_EMAIL_UNIQUE, User
from fastapi_app.users.errors import EmailTaken

_COLUMNS = (
    User.id,
    User.email,
    User.display_name,
    User.is_active,
    User.is_staff,
    User.created_at,
    User.updated_at,
)
_GET = Statement(select(*_COLUMNS).where(User.id == bindparam("user_id")))
_PAGE = Statement(select(*_COLUMNS).where(User.id > bindparam("after")).order_by(User.id).limit(bindparam("limit")))
_INSERT = Statement(
    insert(User).values(email=bindparam("email"), display_name=bindparam("display_name")).returning(*_COLUMNS)
)
# No column here can be null, so null stands for "as it is".
_CHANGEABLE = (User.email, User.display_name, User.is_active)
_UPDATE = Statement(
    update(User)
    .where(User.id == bindparam("user_id"))
    .values(
        {column: func.coalesce(bindparam(f"new_{column.key}", type_=column.type), column) for column in _CHANGEABLE}
    )
    .returning(*_COLUMNS)
)


class UserRepository:
    """Reads and writes users, in the database itself or in a transaction that somebody else will commit."""

    def __init__(self, database: Executor) -> None:
        self._database = database

    async def get(self, user_id: int) -> Row | None:
        return await self._database.fetch_one(_GET, user_id=user_id)

    async def page(self, *, after: int, limit: int) -> list[Row]:
        """At most ``limit`` users with an id above ``after``, by id."""
        return await self._database.fetch_all(_PAGE, after=after, limit=limit)

    async def add(self, *, email: str, display_name: str) -> Row:
        """Insert a user with no usable password. Raises EmailTaken when another user has the address."""
        (user,) = await self._write(_INSERT, email=email, display_name=display_name)
        return user

    async def change(
        self, user_id: int, *, email: str | None = None, display_name: str | None = None, is_active: bool | None = None
    ) -> Row | None:
        """The user after the change, or None when there is no such user. Raises EmailTaken as ``add`` does."""
        users = await self._write(
            _UPDATE, user_id=user_id, new_email=email, new_display_name=display_name, new_is_active=is_active
        )
        return users[0] if users else None

    async def _write(self, statement: Statement, **values: object) -> list[Row]:
        try:
            return await self._database.fetch_all(statement, **values)
        except INTEGRITY_ERRORS as error:
            if violates(error, ACCOUNTS_USER_EMAIL_UNIQUE):
                raise EmailTaken from error
            raise
