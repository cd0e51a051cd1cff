"""What the users' routes ask for by name."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, Path, Query, Request

from fastapi_app.core.entity_tags import EntityTags, IfMatch
from fastapi_app.core.idempotency import executor
from fastapi_app.core.pagination import MAXIMUM_ID, QueryOf
from fastapi_app.core.rows import Faults, Format, Lined, format_of_body, format_to_send, read_rows
from fastapi_app.core.security import Requires
from fastapi_app.users.schemas import UserCreate, UserOut, UserQuery
from fastapi_app.users.service import MAXIMUM_IMPORT_ROWS, UserService

UserId = Annotated[int, Path(ge=1, le=MAXIMUM_ID, description="The user's id.")]

which_users = QueryOf(UserQuery)
WhichUsers = Annotated[UserQuery, Depends(which_users)]

may_read_users = Requires("users:read")
"""Demands a caller who may read users."""

may_write_users = Requires("users:write")
"""Demands a caller who may create, change and deactivate users."""

tags = EntityTags(UserOut)

ChangesFrom = Annotated[frozenset[int] | None, Depends(IfMatch(tags))]
"""The versions that a change may begin from. A route that demands them asks for ``IfMatch(tags, required=True)``."""


async def user_service(request: Request) -> UserService:
    """The use cases on the process's database, or in the transaction of a request that may be repeated."""
    return UserService(executor(request))


Users = Annotated[UserService, Depends(user_service)]


async def imported_rows(request: Request) -> tuple[Sequence[Lined[UserCreate]], Faults]:
    """The file that is sent, row by row, and what is wrong with it so far."""
    faults = Faults()
    form = format_of_body(request)
    rows = await read_rows(request.stream(), form, UserCreate, at_most=MAXIMUM_IMPORT_ROWS, faults=faults)
    return rows, faults


ImportedRows = Annotated[tuple[Sequence[Lined[UserCreate]], Faults], Depends(imported_rows)]


async def export_format(
    request: Request,
    wanted: Annotated[
        Format | None, Query(alias="format", description="Says it for those who cannot send Accept.")
    ] = None,
) -> Format:
    """The form to export in."""
    return wanted or format_to_send(request)


ExportFormat = Annotated[Format, Depends(export_format)]
