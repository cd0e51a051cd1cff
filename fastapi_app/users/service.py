"""The users' use cases. Each but the import is one statement, which is a transaction of its own."""

from collections.abc import AsyncIterator, Sequence

from fastapi_app.core.database import Executor
from fastapi_app.core.pagination import PageOf
from fastapi_app.core.rows import Faults, Lined
from fastapi_app.core.statements import Row
from fastapi_app.users.errors import UserNotFound
from fastapi_app.users.repository import UserRepository
from fastapi_app.users.schemas import UserCreate, UserQuery, UserUpdate

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
        return await self._users.page(query)

    async def create(self, new: UserCreate) -> Row:
        """A new user without a password. Raises EmailTaken."""
        return await self._users.add(email=new.email, display_name=new.display_name)

    async def change(self, user_id: int, changes: UserUpdate, versions: frozenset[int] | None = None) -> Row:
        """The user with the changes made. Raises UserNotFound, EmailTaken, PreconditionFailed."""
        return _found(await self._users.change(user_id, changes.model_dump(), versions))

    async def deactivate(self, user_id: int, versions: frozenset[int] | None = None) -> None:
        """Keep the user, and what belongs to them, but let them in no more. Raises UserNotFound, PreconditionFailed."""
        _found(await self._users.change(user_id, {"is_active": False}, versions))

    async def import_all(self, rows: Sequence[Lined[UserCreate]], faults: Faults) -> int:
        """Create the users of a file, all of them or none; how many that are.

        Raises:
            InvalidRows: ``faults`` has some already, or an address appears twice or is taken.
        """
        lines = faults.once(rows, lambda row: row.email, "Line {line} has the same e-mail address.", "#/email")
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
        while rows := await self._users.after(after, limit=EXPORT_BATCH):
            yield rows
            after = rows[-1]["id"]


def _found(user: Row | None) -> Row:
    if user is None:
        raise UserNotFound
    return user
