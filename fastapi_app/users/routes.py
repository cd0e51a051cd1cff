"""The users' routes: HTTP in, one call, HTTP out."""

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from fastapi_app.core.entity_tags import ETAG_HEADER, IF_MATCH, IF_NONE_MATCH
from fastapi_app.core.errors import InvalidRows, PreconditionFailed, responses
from fastapi_app.core.idempotency import IdempotentRoute
from fastapi_app.core.pagination import LINK_HEADER, Page, PageOf, page_links
from fastapi_app.core.rows import MEDIA_TYPES, RowWriter
from fastapi_app.core.security import CurrentUserId
from fastapi_app.core.statements import Row
from fastapi_app.users.dependencies import (
    ChangesFrom,
    ExportFormat,
    ImportedRows,
    UserId,
    Users,
    WhichUsers,
    may_read_users,
    may_write_users,
    tags,
    which_users,
)
from fastapi_app.users.errors import EmailTaken, UserNotFound
from fastapi_app.users.schemas import ImportOut, UserCreate, UserOut, UserUpdate

router = APIRouter(prefix="/users", tags=["users"], route_class=IdempotentRoute)

_TAGGED: dict[int | str, dict[str, Any]] = {200: {"headers": ETAG_HEADER}}
_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "Not Modified", "headers": ETAG_HEADER}}
_FILE: dict[str, Any] = {media_type: {"schema": {"type": "string"}} for media_type in MEDIA_TYPES}
_JSON_LINES, _CSV = '{"email": "ada@example.com", "display_name": "Ada"}\n', "email,display_name\nada@example.com,Ada\n"
_FILE_TO_SEND: dict[str, Any] = {
    media_type: {"schema": {"type": "string"}, "example": _CSV if media_type == "text/csv" else _JSON_LINES}
    for media_type in MEDIA_TYPES
}
_written = RowWriter(UserOut)


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=UserOut,
    dependencies=[Depends(may_write_users)],
    responses=responses(EmailTaken)
    | {201: {"headers": ETAG_HEADER | {"Location": {"description": "The user.", "schema": {"type": "string"}}}}},
)
async def create_user(new: UserCreate, users: Users, request: Request, response: Response) -> Row:
    """Create a user."""
    user = await users.create(new)
    response.headers["Location"] = f"{quote(request.scope['path'])}/{user['id']}"
    return tags.mark(user, response)


@router.get(
    "",
    response_model=Page[UserOut],
    dependencies=[Depends(may_read_users)],
    responses={200: {"headers": LINK_HEADER}},
    openapi_extra=which_users.documented,
)
async def list_users(query: WhichUsers, users: Users, request: Request, response: Response) -> PageOf:
    """List users, a page at a time.

    They come by id, or in another order that an index serves: `sort=created_at` or `sort=email`, with a minus in front
    for the last first, each alone or with `is_active`; `created_from` and `created_before` go with `created_at`; what
    `search` finds is sorted by what it matches.
    """
    page = await users.page(query)
    response.headers["Link"] = page_links(request, page)
    return page


@router.get(
    "/me",
    response_model=UserOut,
    responses=responses(UserNotFound) | _TAGGED | _NOT_MODIFIED,
    openapi_extra=IF_NONE_MATCH,
)
async def get_me(user_id: CurrentUserId, users: Users, request: Request, response: Response) -> Row | Response:
    """Get the user whom the token speaks for. A machine client's speaks for none."""
    return tags.answer(await users.get(user_id), request, response)


@router.get(
    "/export",
    response_class=StreamingResponse,
    dependencies=[Depends(may_read_users)],
    responses={200: {"description": "All users.", "content": _FILE}},
)
async def export_users(form: ExportFormat, users: Users) -> StreamingResponse:
    """Export all users, by id, as JSON lines or as CSV.

    When the connection ends before the file does, the file is not whole: HTTP says so, by a last chunk that never
    comes. In CSV, a cell that a spreadsheet would run as a formula has an apostrophe in front, which the import takes
    off again.
    """
    name = f'attachment; filename="users.{form}"'
    return StreamingResponse(
        _written.write(users.batches(), form), media_type=form.media_type, headers={"Content-Disposition": name}
    )


@router.post(
    "/import",
    response_model=ImportOut,
    dependencies=[Depends(may_write_users)],
    responses=responses(InvalidRows),
    openapi_extra={"requestBody": {"required": True, "content": _FILE_TO_SEND}},
)
async def import_users(file: ImportedRows, users: Users) -> ImportOut:
    """Create the users of a file of at most 10,000 rows, all of them or none.

    JSON lines, or CSV whose first line names the columns `email` and `display_name`. What is wrong is told by line.
    """
    return ImportOut(created=await users.import_all(*file))


@router.get(
    "/{user_id}",
    response_model=UserOut,
    dependencies=[Depends(may_read_users)],
    responses=responses(UserNotFound) | _TAGGED | _NOT_MODIFIED,
    openapi_extra=IF_NONE_MATCH,
)
async def get_user(user_id: UserId, users: Users, request: Request, response: Response) -> Row | Response:
    """Get a user."""
    return tags.answer(await users.get(user_id), request, response)


@router.patch(
    "/{user_id}",
    response_model=UserOut,
    dependencies=[Depends(may_write_users)],
    responses=responses(UserNotFound, EmailTaken, PreconditionFailed) | _TAGGED,
    openapi_extra=IF_MATCH,
)
async def change_user(
    user_id: UserId, changes: UserUpdate, users: Users, versions: ChangesFrom, response: Response
) -> Row:
    """Change what is given of a user. Deactivating them ends their tokens and their API keys."""
    return tags.mark(await users.change(user_id, changes, versions), response)


@router.delete(
    "/{user_id}",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
    dependencies=[Depends(may_write_users)],
    responses=responses(UserNotFound, PreconditionFailed),
    openapi_extra=IF_MATCH,
)
async def deactivate_user(user_id: UserId, users: Users, versions: ChangesFrom) -> None:
    """Deactivate a user, which ends their tokens. Their data stays, and a PATCH can let them in again."""
    await users.deactivate(user_id, versions)
