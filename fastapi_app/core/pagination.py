"""Pages: a bounded number of items and an opaque cursor to the next, which costs the same however deep it leads."""

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Self

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict

from fastapi_app.core.errors import InvalidParameter
from fastapi_app.core.statements import Row

DEFAULT_LIMIT = 50
MAXIMUM_LIMIT = 200
MAXIMUM_ID = 2**63 - 1
"""PostgreSQL's and SQLite's largest integer key."""


class Page[T](BaseModel):
    """Some of the items, in a stable order, and how to ask for those that follow."""

    model_config = ConfigDict(from_attributes=True)

    items: list[T]
    next_cursor: str | None
    """Give it as ``cursor`` to get the next page; null on the last."""


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which page is asked for: at most ``limit`` items with an id above ``after``."""

    limit: int
    after: int


async def _page_query(
    limit: Annotated[int, Query(ge=1, le=MAXIMUM_LIMIT, description="Most items to return.")] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, Query(description="The previous page's next_cursor; none for the first page.")
    ] = None,
) -> PageQuery:
    return PageQuery(limit, after=0 if cursor is None else decode_cursor(cursor))


PageRequest = Annotated[PageQuery, Depends(_page_query)]


@dataclass(frozen=True, slots=True)
class PageOf:
    """A page before it is a response: what ``Page`` is read from."""

    items: list[Row]
    next_cursor: str | None

    @classmethod
    def first_of(cls, items: list[Row], limit: int) -> Self:
        """The first ``limit`` of ``items``; one more than that tells that another page follows."""
        shown = items[:limit]
        return cls(shown, next_cursor=encode_cursor(shown[-1]["id"]) if len(items) > limit else None)


def encode_cursor(last_id: int) -> str:
    """The cursor that leads on from the item with this id."""
    return base64.urlsafe_b64encode(b"%d" % last_id).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> int:
    """The id that a cursor stands for.

    Raises:
        InvalidParameter: it is none that ``encode_cursor`` made.
    """
    try:
        last_id = int(
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        )
    except (binascii.Error, ValueError):
        last_id = -1
    if not 0 <= last_id <= MAXIMUM_ID or encode_cursor(last_id) != cursor:
        raise InvalidParameter("cursor", "This is not a cursor that this API has given out.")
    return last_id
