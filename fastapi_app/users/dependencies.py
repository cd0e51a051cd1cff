"""What the users' routes ask for by name."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, Path, Request

from fastapi_app.core.entity_tags import EntityTags, IfMatch, Tag, Tagged
from fastapi_app.core.idempotency import executor
from fastapi_app.core.pagination import MAXIMUM_ID, QueryOf
from fastapi_app.core.rows import Faults, Lined, RowsOf
from fastapi_app.core.security import Requires
from fastapi_app.users.schemas import UserCreate, UserOut, UserQuery
from fastapi_app.users.service import MAXIMUM_IMPORT_ROWS, UserService

may_read_users, may_write_users = Requires("users:read"), Requires("users:write")
reads, writes = [Depends(may_read_users)], [Depends(may_write_users)]
"""``dependencies`` of a route: the caller may read users, or may create, change and deactivate them."""

UserId = Annotated[int, Path(ge=1, le=MAXIMUM_ID, description="The user's id.")]
WhichUsers = Annotated[UserQuery, Depends(QueryOf(UserQuery))]

_tags = EntityTags(UserOut)
TagUser = Annotated[Tag, Depends(Tagged(_tags))]
ChangesFrom = Annotated[frozenset[int] | None, Depends(IfMatch(_tags))]
"""The versions that a change may begin from. A route that demands them asks for ``IfMatch(_tags, required=True)``."""

_rows = RowsOf(UserCreate, at_most=MAXIMUM_IMPORT_ROWS, example={"email": "ada@example.com", "display_name": "Ada"})
ImportedUsers = Annotated[tuple[Sequence[Lined[UserCreate]], Faults], Depends(_rows)]


async def user_service(request: Request) -> UserService:
    """The use cases on the process's database, or in the transaction of a request that may be repeated."""
    return UserService(executor(request))


Users = Annotated[UserService, Depends(user_service)]
