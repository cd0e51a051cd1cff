"""The users' use cases. Each that writes is one transaction, whose commit stands here."""

from sqlalchemy.ext.asyncio import AsyncSession

from fastapi_app.core.pagination import PageOf, PageQuery
from fastapi_app.users.errors import UserNotFound
from fastapi_app.users.repository import UserRepository, UserRow
from fastapi_app.users.schemas import UserCreate, UserUpdate


class UserService:
    """What can be asked and done about users, in one request's session."""

    def __init__(self, session: AsyncSession, users: UserRepository) -> None:
        self._session = session
        self._users = users

    async def get(self, user_id: int) -> UserRow:
        """One user. Raises UserNotFound."""
        return _found(await self._users.get(user_id))

    async def page(self, query: PageQuery) -> PageOf[UserRow]:
        """A page of the users, by id."""
        return PageOf.first_of(await self._users.page(after=query.after, limit=query.limit + 1), query.limit)

    async def create(self, new: UserCreate) -> UserRow:
        """A new user without a password. Raises EmailTaken."""
        user = await self._users.add(email=new.email, display_name=new.display_name)
        await self._session.commit()
        return user

    async def change(self, user_id: int, changes: UserUpdate) -> UserRow:
        """The user with the changes made. Raises UserNotFound, EmailTaken."""
        user = _found(await self._users.change(user_id, **changes.model_dump()))
        await self._session.commit()
        return user

    async def deactivate(self, user_id: int) -> None:
        """Keep the user, and what belongs to them, but let them in no more. Raises UserNotFound."""
        _found(await self._users.change(user_id, is_active=False))
        await self._session.commit()


def _found(user: UserRow | None) -> UserRow:
    if user is None:
        raise UserNotFound
    return user
