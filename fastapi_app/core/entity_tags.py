"""Entity tags and the conditions made of them (RFC 9110, sections 8.8.3 and 13.1), for resources with a version."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPMethod, HTTPStatus
from typing import Any

from fastapi import Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.requests import Request

from fastapi_app.core.documentation import Documentation
from fastapi_app.core.errors import InvalidParameter, PreconditionRequired
from fastapi_app.core.statements import Row
from project.asgi_scope import header

ANY = "*"
ETAG_HEADER: dict[str, Any] = {
    "ETag": {
        "description": "The version of what is shown (RFC 9110, section 8.8.3).",
        "schema": {"type": "string"},
    }
}
_is_version = re.compile(r"[0-9]{1,19}").fullmatch
"""Whether a text may be a version: a bigint, which has no more digits."""
_next_tag = re.compile(r'[ \t,]*+((?:W/)?"[^\x00-\x20\x7f"]*+"[ \t]*+(?=,|\Z)|\Z)').match
"""The next tag of a list, or the end of it; each character is looked at once, however the list is made."""


def parse(name: str, value: str) -> Sequence[str]:
    """The tags of a condition, each as it is written, or ``ANY`` alone.

    Raises:
        InvalidParameter: it is neither ``*`` nor a list of entity tags; ``name`` is the header's.
    """
    if value.strip() == ANY:
        return (ANY,)
    tags, place = list[str](), 0
    while place < len(value):
        found = _next_tag(value, place)
        if found is None:
            raise InvalidParameter(name, 'Give entity tags as ETag has them, such as "7-1f2e3d4c", or *.')
        if found[1]:
            tags.append(found[1].rstrip(" \t"))
        place = found.end()
    if not tags:
        raise InvalidParameter(name, "It names no entity tag.")
    return tags


class EntityTags:
    """The strong tags of a resource: a row's version, and the shape in which this release shows it.

    With the shape in it, a client that kept an answer of an earlier release asks again and is shown new fields.
    """

    def __init__(self, shown_as: type) -> None:
        shape = json.dumps(TypeAdapter[Any](shown_as).json_schema(mode="serialization"), sort_keys=True)
        self._end = f'-{hashlib.sha256(shape.encode()).hexdigest()[:8]}"'

    def tag(self, row: Row) -> str:
        """The row's entity tag."""
        return f'"{row["version"]}{self._end}'

    def mark(self, row: Row, response: Response) -> Row:
        """The row, with its tag in ``response``."""
        response.raw_headers.append((b"etag", self.tag(row).encode()))
        return row

    def answer(self, row: Row, request: Request, response: Response) -> Row | Response:
        """The row, with its tag in ``response``; or 304 when the GET's ``If-None-Match`` has the tag already.

        Raises:
            InvalidParameter: the header is not a condition.
        """
        condition = header(request.scope, b"if-none-match")
        if condition is not None and self._has(condition.decode("latin-1"), tag := self.tag(row)):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": tag})
        return self.mark(row, response)

    @staticmethod
    def _has(condition: str, tag: str) -> bool:
        """Weak comparison, as a cache's question wants it."""
        tags = parse("If-None-Match", condition)
        return ANY in tags or any(one.removeprefix("W/") == tag for one in tags)

    def versions(self, condition: str) -> frozenset[int] | None:
        """The versions that ``If-Match`` lets be changed; None is any. A weak tag is none of them.

        Raises:
            InvalidParameter: it is not a condition.
        """
        tags = parse("If-Match", condition)
        if ANY in tags:
            return None
        numbers = [tag[1 : -len(self._end)] for tag in tags if tag[0] == '"' and tag.endswith(self._end)]
        return frozenset(int(number) for number in numbers if _is_version(number))


type Answer = Row | Response
type Tag = Callable[[Row], Answer]
"""Gives the response to a request for one row its entity tag, or answers 304 in its place."""


class Tagged:
    """A dependency: what a route passes the row through that it answers with.

    The response then carries the row's ``ETag``; a GET whose ``If-None-Match`` has that tag is answered with 304.
    """

    def __init__(self, tags: EntityTags) -> None:
        self._tags = tags

    async def __call__(self, request: Request, response: Response) -> Tag:
        if request.method == HTTPMethod.GET:
            return partial(self._tags.answer, request=request, response=response)
        return partial(self._tags.mark, response=response)

    def documentation(self, route: APIRoute) -> Documentation:
        """Returns the header of the response, and for a GET the condition and its response."""
        status = route.status_code or HTTPStatus.OK.value
        if HTTPMethod.GET not in (route.methods or ()):
            return Documentation(responses={status: {"headers": ETAG_HEADER}})
        not_modified = {"description": "Not Modified", "headers": ETAG_HEADER}
        return Documentation([IF_NONE_MATCH], {status: {"headers": ETAG_HEADER}, 304: not_modified})


class IfMatch:
    """A dependency: the versions that a change may begin from, by ``If-Match``; None is any.

    Raises:
        InvalidParameter: the header is not a condition.
        PreconditionRequired: there is none, and the route demands one (RFC 6585, section 3).
    """

    def __init__(self, tags: EntityTags, *, required: bool = False) -> None:
        self._tags = tags
        self._required = required

    async def __call__(self, request: Request) -> frozenset[int] | None:
        condition = request.headers.get("if-match")
        if condition is not None:
            return self._tags.versions(", ".join(request.headers.getlist("if-match")))
        if self._required:
            raise PreconditionRequired
        return None

    def documentation(self, route: APIRoute) -> Documentation:
        """Returns the header."""
        return Documentation([IF_MATCH_REQUIRED if self._required else IF_MATCH])


def _parameter(name: str, description: str, *, required: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string"},
        "example": '"7-1f2e3d4c"',
    }


IF_NONE_MATCH = _parameter("If-None-Match", "Entity tags, or *: 304 when the present one is among them.")
IF_MATCH = _parameter("If-Match", "Entity tags, or *: 412 when the present one is not among them.")
IF_MATCH_REQUIRED = _parameter(
    "If-Match", "Entity tags, or *: 412 when the present one is not among them, 428 without any.", required=True
)
