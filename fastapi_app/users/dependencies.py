"""What the users' routes ask for by name."""

from typing import Annotated

from fastapi import Depends, Path, Security

from fastapi_app.core.database import ReadSession, WriteSession
from fastapi_app.core.pagination import MAXIMUM_ID
from fastapi_app.core.security import current_principal
from fastapi_app.users.repository import UserRepository
from fastapi_app.users.service import UserService

UserId = Annotated[int, Path(ge=1, le=MAXIMUM_ID)]

USERS_READ = Security(current_principal, scopes=["users:read"])
"""Demands a caller who may read users."""

USERS_WRITE = Security(current_principal, scopes=["users:write"])
"""Demands a caller who may create, change and deactivate users."""


async def reading_users(session: ReadSession) -> UserService:
    """The service of a request that only reads."""
    return UserService(session, UserRepository(session))


async def writing_users(session: WriteSession) -> UserService:
    """The service of a request that writes."""
    return UserService(session, UserRepository(session))


ReadingUsers = Annotated[UserService, Depends(reading_users)]
WritingUsers = Annotated[UserService, Depends(writing_users)]
