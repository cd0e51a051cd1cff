"""The users' use cases. Most are one statement, which is a transaction of its own."""

from fastapi_app.core.database import Database
from fastapi_app.core.pagination import PageOf, PageQuery
from fastapi_app.core.revocation import end_tokens_of
from fastapi_app.core.statements import Row
from fastapi_app.users.errors import UserNotFound
from fastapi_app.users.repository import UserRepository
from fastapi_app.users.schemas import UserCreate, UserUpdate


class UserService:
    """What can be asked and done about users."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._users = UserRepository(database)

    async def get(self, user_id: int) -> Row:
        """One user. Raises UserNotFound."""
        return _found(await self._users.get(user_id))

    async def page(self, query: PageQuery) -> PageOf:
        """A page of the users, by id."""
        return PageOf.first_of(await self._users.page(after=query.after, limit=query.limit + 1), query.limit)

    async def create(self, new: UserCreate) -> Row:
        """A new user without a password. Raises EmailTaken."""
        return await self._users.add(email=new.email, display_name=new.display_name)

    async def change(self, user_id: int, changes: UserUpdate) -> Row:
        """The user with the changes made. Raises UserNotFound, EmailTaken."""
        if changes.is_active is False:
            return await self._change_and_end_tokens(user_id, changes)
        return _found(await self._users.change(user_id, **changes.model_dump()))

    async def deactivate(self, user_id: int) -> None:
        """Keep the user, and what belongs to them, but let them in no more. Raises UserNotFound."""
        await self._change_and_end_tokens(user_id, UserUpdate(is_active=False))

    async def _change_and_end_tokens(self, user_id: int, changes: UserUpdate) -> Row:
        async with self._database.transaction() as transaction:
            user = _found(await UserRepository(transaction).change(user_id, **changes.model_dump()))
            await end_tokens_of(user_id, "deactivated", transaction)
            await transaction.commit()
        return user


def _found(user: Row | None) -> Row:
    if user is None:
        raise UserNotFound
    return user
