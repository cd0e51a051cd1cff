"""The measure: Starlette, asyncpg and msgspec by hand, and a cache of verified tokens. What can be left out is out.

It has no framework's conveniences: no dependency injection, no OpenAPI, no problem details, no middleware. What it
does do is what every peer must: check the token and its scope, validate what comes in, and answer the same JSON.
"""

import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, NamedTuple, Protocol

import asyncpg
import jwt
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from benchmarks.peers.common import (
    ALGORITHM,
    AUDIENCE,
    DATABASE_URL,
    DEFAULT_LIMIT,
    EMAIL_PATTERN,
    ISSUER,
    MAXIMUM_LIMIT,
    POOL_SIZE,
    READ,
    WRITE,
    decode_cursor,
    encode_cursor,
    public_key,
)

COLUMNS = "id, email, display_name, is_active, is_staff, created_at, updated_at"
GET = f"SELECT {COLUMNS} FROM accounts_user WHERE id = $1"  # noqa: S608  Constants only.
PAGE = f"SELECT {COLUMNS} FROM accounts_user WHERE id > $1 ORDER BY id LIMIT $2"  # noqa: S608
CREATE = f"INSERT INTO accounts_user (email, display_name) VALUES ($1, $2) RETURNING {COLUMNS}"  # noqa: S608
PATCH = (
    "UPDATE accounts_user SET email = coalesce($2, email), display_name = coalesce($3, display_name), "  # noqa: S608
    f"is_active = coalesce($4, is_active), updated_at = now(), version = version + 1 WHERE id = $1 RETURNING {COLUMNS}"
)
MAXIMUM_CACHED_TOKENS = 10_000

Email = Annotated[str, msgspec.Meta(max_length=254, pattern=EMAIL_PATTERN)]
DisplayName = Annotated[str, msgspec.Meta(max_length=150)]


class UserCreate(msgspec.Struct, forbid_unknown_fields=True):
    email: Email
    display_name: DisplayName = ""


class UserUpdate(msgspec.Struct, forbid_unknown_fields=True):
    email: Email | None = None
    display_name: DisplayName | None = None
    is_active: bool | None = None


class Caller(NamedTuple):
    expires_at: int
    scopes: frozenset[str]


encode = msgspec.json.Encoder().encode
decode_create = msgspec.json.Decoder(UserCreate).decode
decode_update = msgspec.json.Decoder(UserUpdate).decode
callers: dict[str, Caller] = {}


class Database(Protocol):
    """What runs a statement: asyncpg's pool, or what raw_handed.py has in its place."""

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]: ...


database: Database


class Refused(Exception):
    """The token is missing, not to be believed, or not enough."""

    def __init__(self, status: int) -> None:
        self.status = status


def authorise(request: Request, scope: str) -> None:
    """Check the caller's token, verifying each token once. Raises Refused."""
    header = request.headers.get("authorization", "")
    caller = callers.get(header)
    if caller is None or caller.expires_at <= time.time():
        caller = verify(header)
    if scope not in caller.scopes:
        raise Refused(403)


def verify(header: str) -> Caller:
    """Verify what the header carries, and remember it until it expires. Raises Refused."""
    try:
        claims = jwt.decode(
            header.removeprefix("Bearer "), public_key(), algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER
        )
    except jwt.InvalidTokenError:
        raise Refused(401) from None
    if len(callers) >= MAXIMUM_CACHED_TOKENS:
        callers.clear()
    caller = callers[header] = Caller(claims["exp"], frozenset(claims.get("scope", "").split()))
    return caller


def answer(value: object, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


async def ping(_request: Request) -> Response:
    return PlainTextResponse("ok")


async def get_user(request: Request) -> Response:
    authorise(request, READ)
    rows = await database.fetch(GET, request.path_params["user_id"])
    return answer(dict(rows[0])) if rows else answer({"detail": "not found"}, 404)


async def list_users(request: Request) -> Response:
    authorise(request, READ)
    query = request.query_params
    try:
        limit, after = int(query.get("limit", DEFAULT_LIMIT)), decode_cursor(query.get("cursor"))
    except ValueError:
        return answer({"detail": "invalid"}, 422)
    if not 1 <= limit <= MAXIMUM_LIMIT:
        return answer({"detail": "invalid"}, 422)
    rows = await database.fetch(PAGE, after, limit + 1)
    next_cursor = encode_cursor(rows[limit - 1]["id"]) if len(rows) > limit else None
    return answer({"items": [dict(row) for row in rows[:limit]], "next_cursor": next_cursor})


async def create_user(request: Request) -> Response:
    authorise(request, WRITE)
    try:
        new = decode_create(await request.body())
        rows = await database.fetch(CREATE, new.email.lower(), new.display_name)
    except msgspec.ValidationError as error:
        return answer({"detail": str(error)}, 422)
    except asyncpg.UniqueViolationError:
        return answer({"detail": "taken"}, 409)
    return answer(dict(rows[0]), 201)


async def change_user(request: Request) -> Response:
    authorise(request, WRITE)
    try:
        new = decode_update(await request.body())
        email = new.email.lower() if new.email is not None else None
        rows = await database.fetch(PATCH, request.path_params["user_id"], email, new.display_name, new.is_active)
    except msgspec.ValidationError as error:
        return answer({"detail": str(error)}, 422)
    except asyncpg.UniqueViolationError:
        return answer({"detail": "taken"}, 409)
    return answer(dict(rows[0])) if rows else answer({"detail": "not found"}, 404)


async def refused(_request: Request, error: Exception) -> Response:
    return answer({"detail": "refused"}, error.status if isinstance(error, Refused) else 500)


async def leave_as_it_is(_connection: object) -> None:
    """What asyncpg would do to a connection that comes back costs a round trip; single statements change no state."""


def open_pool() -> AbstractAsyncContextManager[Database]:
    """The pool by which asyncpg's documentation has web services use a database."""
    return asyncpg.create_pool(DATABASE_URL, min_size=POOL_SIZE, max_size=POOL_SIZE, reset=leave_as_it_is)


def use(opened: Database) -> None:
    global database
    database = opened


def create_app(open_database: Callable[[], AbstractAsyncContextManager[Database]]) -> Starlette:
    """The app, on a database that is opened with it."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with open_database() as opened:
            use(opened)
            gc.collect()
            gc.freeze()
            yield

    return Starlette(
        lifespan=lifespan,
        exception_handlers={Refused: refused},
        routes=[
            Route("/ping", ping),
            Route("/api/v1/users/{user_id:int}", get_user),
            Route("/api/v1/users/{user_id:int}", change_user, methods=["PATCH"]),
            Route("/api/v1/users", list_users),
            Route("/api/v1/users", create_user, methods=["POST"]),
        ],
    )


app = create_app(open_pool)
