"""Pages: a bounded number of items and a signed cursor to the next, which costs the same however deep it leads."""

import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Self
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from fastapi_app.core.documentation import Documentation
from fastapi_app.core.errors import InvalidParameter
from fastapi_app.core.faults import faults_of
from fastapi_app.core.statements import Row
from project.config import config

DEFAULT_LIMIT = 50
MAXIMUM_LIMIT = 200
MAXIMUM_ID = 2**63 - 1
"""PostgreSQL's and SQLite's largest integer key."""
MAXIMUM_CURSOR_LENGTH = 2048
"""Characters; the longest e-mail address or name in one is a fraction of that."""
_TAG_LENGTH = 16
"""Bytes of the signature that a cursor carries; nobody guesses 128 bits."""

type Place = Sequence[str | int]
"""Where in its order an item stands: what the order sorts by, of that item."""


class Page[T](BaseModel):
    """Some of the items, in a stable order, and how to ask for those that follow."""

    model_config = ConfigDict(from_attributes=True)

    items: list[T]
    next_cursor: str | None
    """Give it as ``cursor``, with the same filters and sort, to get the next page; null on the last."""


class PageQuery(BaseModel):
    """Which page is asked for. A resource's query adds its filters and its sort; what is not declared is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=MAXIMUM_LIMIT, description="Most items to return.")] = DEFAULT_LIMIT
    cursor: Annotated[
        str | None,
        Field(
            max_length=MAXIMUM_CURSOR_LENGTH,
            description="The previous page's next_cursor, with the same filters and sort; none for the first page.",
        ),
    ] = None

    @property
    def place(self) -> Place | None:
        """The place after which the page begins, None at the beginning. Raises InvalidParameter."""
        return None if self.cursor is None else Cursors.read(self.cursor, self.listing)

    @property
    def listing(self) -> str:
        """Which list this is a page of: its query, but for how much of it is asked for."""
        asked = self.model_dump_json(exclude={"limit", "cursor"}, exclude_defaults=True)
        return f"{type(self).__module__}.{type(self).__qualname__}{asked}"


class QueryOf[Q: PageQuery]:
    """A dependency: the query that is asked for, of one kind.

    FastAPI's own reading of a query model costs a quarter of what a page does; this costs nothing without parameters.

    Raises:
        RequestValidationError: a parameter is unknown, or its value is not valid.
    """

    def __init__(self, kind: type[Q]) -> None:
        self._kind = kind
        self._without_parameters = kind()

    async def __call__(self, request: Request) -> Q:
        written = request.scope["query_string"]
        if not written:
            return self._without_parameters
        try:
            return self._kind.model_validate_strings(dict(parse_qsl(written.decode("latin-1"), keep_blank_values=True)))
        except ValidationError as error:
            raise RequestValidationError(faults_of(error, ("query",))) from error

    def documentation(self, route: APIRoute) -> Documentation:
        """Returns the parameters, and the links of the page."""
        schema = self._kind.model_json_schema()
        parameters = [_parameter(name, said, schema) for name, said in schema["properties"].items()]
        return Documentation(parameters, {route.status_code or HTTPStatus.OK.value: {"headers": LINK_HEADER}})


def _parameter(name: str, said: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    # What may be null is what may be left out: a query has no null.
    (kind, *_) = [one for one in said.get("anyOf", [said]) if one != {"type": "null"}]
    if "$ref" in kind:
        kind = schema["$defs"][kind["$ref"].rpartition("/")[2]]
    shown = {key: value for key, value in kind.items() if key not in {"title", "description"}}
    return {"name": name, "in": "query", "required": False, "description": said["description"], "schema": shown}


@dataclass(frozen=True, slots=True)
class PageOf:
    """A page before it is a response: what ``Page`` is read from."""

    items: list[Row]
    next_cursor: str | None

    @classmethod
    def first_of(cls, items: list[Row], query: PageQuery, place: Callable[[Row], Place]) -> Self:
        """As many of ``items`` as ``query`` asks for; one more than that tells that another page follows."""
        if len(items) <= query.limit:
            return cls(items, None)
        shown = items[: query.limit]
        return cls(shown, Cursors.sign(place(shown[-1]), query.listing))


class Cursors:
    """Places that only this API can have written: signed, together with the list that they are places in."""

    KEYS = tuple(
        hmac.digest(secret.get_secret_value().encode(), b"tandem: cursors", "sha256")
        for secret in (config.secret_key, *config.secret_key_fallbacks)
    )
    """The first signs; what the others signed is still read."""

    @classmethod
    def sign(cls, place: Place, listing: str) -> str:
        """The cursor that leads on from ``place`` in ``listing``."""
        written = to_json(place)
        return urlsafe_b64encode(_tag(cls.KEYS[0], written, listing) + written).rstrip(b"=").decode()

    @classmethod
    def read(cls, cursor: str, listing: str) -> Place:
        """The place that a cursor stands for.

        Raises:
            InvalidParameter: ``sign`` did not make it, or not for this list.
        """
        try:
            signed = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except ValueError:
            signed = b""
        tag, written = signed[:_TAG_LENGTH], signed[_TAG_LENGTH:]
        if not any(hmac.compare_digest(tag, _tag(key, written, listing)) for key in cls.KEYS):
            raise InvalidParameter(
                "cursor", "This API has not given it out for this list: keep filters and sort, or begin without it."
            )
        place: Place = json.loads(written)
        return place


def _tag(key: bytes, written: bytes, listing: str) -> bytes:
    return hmac.digest(key, listing.encode() + b"\n" + written, "sha256")[:_TAG_LENGTH]


_is_encoded = re.compile(r"[A-Za-z0-9._~%+=&:@,*-]*", re.ASCII).fullmatch
"""Whether a query is written as it may stand in an address; most clients see to that."""

LINK_HEADER: dict[str, Any] = {
    "Link": {
        "description": "The first page, and the next where there is one (RFC 8288): rel=first, rel=next.",
        "schema": {"type": "string"},
    }
}


def page_links(request: Request, page: PageOf) -> str:
    """The ``Link`` header (RFC 8288) of a page: its list's first page, and the next if there is one."""
    # The path is decoded: below /teams/{name}, what a name has in it may not stand in a header.
    path, query = quote(request.scope["path"]), request.scope["query_string"].decode("latin-1")
    if not _is_encoded(query):
        query = urlencode(parse_qsl(query))
    asked = [parameter for parameter in query.split("&") if parameter and not parameter.startswith("cursor=")]
    first = f'<{_address(path, asked)}>; rel="first"'
    if page.next_cursor is None:
        return first
    return f'<{_address(path, [*asked, f"cursor={page.next_cursor}"])}>; rel="next", {first}'


def _address(path: str, parameters: list[str]) -> str:
    return f"{path}?{'&'.join(parameters)}" if parameters else path
