"""The users' routes: HTTP in, one call, HTTP out."""

from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from fastapi_app.core.entity_tags import Answer
from fastapi_app.core.errors import InvalidRows, PreconditionFailed, responses
from fastapi_app.core.idempotency import IdempotentRoute
from fastapi_app.core.pagination import Page, PageOf, page_links
from fastapi_app.core.routing import LOCATION, location
from fastapi_app.core.rows import FILE, ExportFormat, RowWriter
from fastapi_app.core.security import CurrentUserId
from fastapi_app.users.dependencies import ChangesFrom, ImportedUsers, TagUser, UserId, Users, WhichUsers, reads, writes
from fastapi_app.users.errors import EmailTaken, UserNotFound
from fastapi_app.users.schemas import ImportOut, UserCreate, UserOut, UserUpdate

router = APIRouter(prefix="/users", tags=["users"], route_class=IdempotentRoute)
_writer = RowWriter(UserOut)


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=UserOut,
    dependencies=writes,
    responses=responses(EmailTaken) | LOCATION,
)
async def create_user(new: UserCreate, users: Users, tag: TagUser, request: Request, response: Response) -> Answer:
    """Create a user."""
    user = await users.create(new)
    response.headers["Location"] = location(request, user["id"])
    return tag(user)


@router.get("", response_model=Page[UserOut], dependencies=reads)
async def list_users(query: WhichUsers, users: Users, request: Request, response: Response) -> PageOf:
    """List users, a page at a time.

    They come by id, or in another order that an index serves: `sort=created_at` or `sort=email`, with a minus in front
    for the last first, each alone or with `is_active`; `created_from` and `created_before` go with `created_at`; what
    `search` finds is sorted by what it matches.
    """
    page = await users.page(query)
    response.headers["Link"] = page_links(request, page)
    return page


@router.get("/me", response_model=UserOut, responses=responses(UserNotFound))
async def get_me(user_id: CurrentUserId, users: Users, tag: TagUser) -> Answer:
    """Get the user of the token. A machine client's token has no user."""
    return tag(await users.get(user_id))


@router.get(
    "/export",
    response_class=StreamingResponse,
    dependencies=reads,
    responses={200: {"description": "All users.", "content": FILE}},
)
async def export_users(form: ExportFormat, users: Users) -> StreamingResponse:
    """Export all users, by id, as JSON lines or as CSV.

    When the connection ends before the file does, the file is not whole: HTTP says so, by a last chunk that never
    comes. In CSV, a cell that a spreadsheet would run as a formula has an apostrophe in front, which the import takes
    off again.
    """
    return _writer.response(users.batches(), form, "users")


@router.post("/import", response_model=ImportOut, dependencies=writes, responses=responses(InvalidRows))
async def import_users(file: ImportedUsers, users: Users) -> ImportOut:
    """Create the users of a file of at most 10,000 rows, all of them or none.

    JSON lines, or CSV whose first line names the columns `email` and `display_name`. What is wrong is told by line.
    """
    return ImportOut(created=await users.import_all(*file))


@router.get("/{user_id}", response_model=UserOut, dependencies=reads, responses=responses(UserNotFound))
async def get_user(user_id: UserId, users: Users, tag: TagUser) -> Answer:
    """Get a user."""
    return tag(await users.get(user_id))


@router.patch(
    "/{user_id}",
    response_model=UserOut,
    dependencies=writes,
    responses=responses(UserNotFound, EmailTaken, PreconditionFailed),
)
async def change_user(
    user_id: UserId, changes: UserUpdate, users: Users, versions: ChangesFrom, tag: TagUser
) -> Answer:
    """Change what is given of a user. Deactivating them ends their tokens and their API keys."""
    return tag(await users.change(user_id, changes, versions))


@router.delete(
    "/{user_id}",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
    dependencies=writes,
    responses=responses(UserNotFound, PreconditionFailed),
)
async def deactivate_user(user_id: UserId, users: Users, versions: ChangesFrom) -> None:
    """Deactivate a user, which ends their tokens. Their data stays, and a PATCH can let them in again."""
    await users.deactivate(user_id, versions)
