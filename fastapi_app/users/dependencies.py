"""What the users' routes ask for by name."""

from typing import Annotated

from fastapi import Depends, Path

from fastapi_app.core.pagination import MAXIMUM_ID
from fastapi_app.core.requests import AppRequest
from fastapi_app.core.security import Requires
from fastapi_app.users.repository import UserRepository
from fastapi_app.users.service import UserService

UserId = Annotated[int, Path(ge=1, le=MAXIMUM_ID, description="The user's id.")]

may_read_users = Requires("users:read")
"""Demands a caller who may read users."""

may_write_users = Requires("users:write")
"""Demands a caller who may create, change and deactivate users."""


async def user_service(request: AppRequest) -> UserService:
    """The use cases on the process's database."""
    return UserService(UserRepository(request.state["resources"].database))


Users = Annotated[UserService, Depends(user_service)]
