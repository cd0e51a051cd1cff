"""The users' routes: HTTP in, one call, HTTP out."""

from http import HTTPStatus

from fastapi import APIRouter, Depends, Request, Response

from fastapi_app.core.errors import responses
from fastapi_app.core.pagination import Page, PageOf, PageRequest
from fastapi_app.core.security import CurrentPrincipal
from fastapi_app.core.statements import Row
from fastapi_app.users.dependencies import UserId, Users, may_read_users, may_write_users
from fastapi_app.users.errors import EmailTaken, UserNotFound
from fastapi_app.users.schemas import UserCreate, UserOut, UserUpdate

router = APIRouter(prefix="/users", tags=["users"])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=UserOut,
    dependencies=[Depends(may_write_users)],
    responses=responses(EmailTaken),
)
async def create_user(new: UserCreate, users: Users, request: Request, response: Response) -> Row:
    """Create a user."""
    user = await users.create(new)
    response.headers["Location"] = f"{request.scope['path']}/{user['id']}"
    return user


@router.get("", response_model=Page[UserOut], dependencies=[Depends(may_read_users)])
async def list_users(query: PageRequest, users: Users) -> PageOf:
    """List users by id, a page at a time."""
    return await users.page(query)


@router.get("/me", response_model=UserOut, responses=responses(UserNotFound))
async def get_me(principal: CurrentPrincipal, users: Users) -> Row:
    """Get the user whom the token speaks for."""
    return await users.get(principal.user_id)


@router.get(
    "/{user_id}",
    response_model=UserOut,
    dependencies=[Depends(may_read_users)],
    responses=responses(UserNotFound),
)
async def get_user(user_id: UserId, users: Users) -> Row:
    """Get a user."""
    return await users.get(user_id)


@router.patch(
    "/{user_id}",
    response_model=UserOut,
    dependencies=[Depends(may_write_users)],
    responses=responses(UserNotFound, EmailTaken),
)
async def change_user(user_id: UserId, changes: UserUpdate, users: Users) -> Row:
    """Change what is given of a user."""
    return await users.change(user_id, changes)


@router.delete(
    "/{user_id}",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
    dependencies=[Depends(may_write_users)],
    responses=responses(UserNotFound),
)
async def deactivate_user(user_id: UserId, users: Users) -> None:
    """Deactivate a user. Their data stays; an administrator, or a PATCH, can let them in again."""
    await users.deactivate(user_id)
