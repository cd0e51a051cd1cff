"""The users' use cases. Each here is one statement, which is a transaction of its own."""

from fastapi_app.core.pagination import PageOf, PageQuery
from fastapi_app.core.statements import Row
from fastapi_app.users.errors import UserNotFound
from fastapi_app.users.repository import UserRepository
from fastapi_app.users.schemas import UserCreate, UserUpdate


class UserService:
    """What can be asked and done about users."""

    def __init__(self, users: UserRepository) -> None:
        self._users = users

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
        return _found(await self._users.change(user_id, **changes.model_dump()))

    async def deactivate(self, user_id: int) -> None:
        """Keep the user, and what belongs to them, but let them in no more. Raises UserNotFound."""
        _found(await self._users.change(user_id, is_active=False))


def _found(user: Row | None) -> Row:
    if user is None:
        raise UserNotFound
    return user
