"""Litestar with its JWT backend, its SQLAlchemy plugin and msgspec, as its documentation has it."""

import datetime
from typing import Annotated, Any, cast

import msgspec
from litestar import Litestar, get, patch, post
from litestar.connection import ASGIConnection
from litestar.exceptions import ClientException, NotFoundException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter
from litestar.plugins.sqlalchemy import EngineConfig, SQLAlchemyAsyncConfig, SQLAlchemyInitPlugin
from litestar.security.jwt import JWTAuth, Token
from litestar.status_codes import HTTP_409_CONFLICT, HTTP_422_UNPROCESSABLE_ENTITY
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.peers.common import (
    ALGORITHM,
    AUDIENCE,
    DEFAULT_LIMIT,
    EMAIL_PATTERN,
    ISSUER,
    MAXIMUM_LIMIT,
    READ,
    WRITE,
    decode_cursor,
    encode_cursor,
    public_key,
)
from benchmarks.peers.sqlalchemy_models import User, engine, new_session

Email = Annotated[str, msgspec.Meta(max_length=254, pattern=EMAIL_PATTERN)]
DisplayName = Annotated[str, msgspec.Meta(max_length=150)]


class UserOut(msgspec.Struct):
    id: int
    email: str
    display_name: str
    is_active: bool
    is_staff: bool
    created_at: datetime.datetime
    updated_at: datetime.datetime


class Page(msgspec.Struct):
    items: list[UserOut]
    next_cursor: str | None


class UserCreate(msgspec.Struct, forbid_unknown_fields=True):
    email: Email
    display_name: DisplayName = ""


class UserUpdate(msgspec.Struct, forbid_unknown_fields=True):
    email: Email | msgspec.UnsetType = msgspec.UNSET
    display_name: DisplayName | msgspec.UnsetType = msgspec.UNSET
    is_active: bool | msgspec.UnsetType = msgspec.UNSET


async def retrieve_user(token: Token, _connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Whom the token names: it says enough, so nobody is looked up."""
    return token.sub


async def requires_scope(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard: the token has the scope that the handler's ``opt`` names. Were it sync, a thread would run it."""
    if handler.opt["scope"] not in connection.auth.extras.get("scope", "").split():
        raise PermissionDeniedException


async def commit(db_session: AsyncSession) -> None:
    try:
        await db_session.commit()
    except IntegrityError:
        raise ClientException(status_code=HTTP_409_CONFLICT, detail="Email taken") from None


def shown(user: User) -> UserOut:
    return msgspec.convert(user, UserOut, from_attributes=True)


@get("/ping", exclude_from_auth=True, media_type="text/plain")
async def ping() -> str:
    return "ok"


@get("/api/v1/users", guards=[requires_scope], scope=READ)
async def list_users(
    db_session: AsyncSession,
    limit: Annotated[int, Parameter(ge=1, le=MAXIMUM_LIMIT)] = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page:
    try:
        after = decode_cursor(cursor)
    except ValueError:
        raise ClientException(status_code=HTTP_422_UNPROCESSABLE_ENTITY) from None
    users = (await db_session.scalars(select(User).where(User.id > after).order_by(User.id).limit(limit + 1))).all()
    next_cursor = encode_cursor(users[limit - 1].id) if len(users) > limit else None
    return Page([shown(user) for user in users[:limit]], next_cursor)


@get("/api/v1/users/{user_id:int}", guards=[requires_scope], scope=READ)
async def get_user(user_id: int, db_session: AsyncSession) -> UserOut:
    user = await db_session.get(User, user_id)
    if user is None:
        raise NotFoundException
    return shown(user)


@post("/api/v1/users", guards=[requires_scope], scope=WRITE)
async def create_user(data: UserCreate, db_session: AsyncSession) -> UserOut:
    user = User(email=data.email.lower(), display_name=data.display_name)
    db_session.add(user)
    await commit(db_session)
    return shown(user)


@patch("/api/v1/users/{user_id:int}", guards=[requires_scope], scope=WRITE)
async def change_user(user_id: int, data: UserUpdate, db_session: AsyncSession) -> UserOut:
    user = await db_session.get(User, user_id)
    if user is None:
        raise NotFoundException
    for name, value in msgspec.structs.asdict(data).items():
        if value is not msgspec.UNSET:
            setattr(user, name, value)
    await commit(db_session)
    return shown(user)


jwt_auth = JWTAuth[str](
    # Annotated as a text, which PyJWT would parse on each request; the key itself is passed on to it as it is.
    token_secret=cast("str", public_key()),
    algorithm=ALGORITHM,
    retrieve_user_handler=retrieve_user,
    accepted_audiences=[AUDIENCE],
    accepted_issuers=[ISSUER],
    exclude=["/schema"],
)

app = Litestar(
    route_handlers=[ping, list_users, get_user, create_user, change_user],
    plugins=[
        SQLAlchemyInitPlugin(
            SQLAlchemyAsyncConfig(engine_instance=engine, session_maker=new_session, engine_config=EngineConfig())
        )
    ],
    on_app_init=[jwt_auth.on_app_init],
)
