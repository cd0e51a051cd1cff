"""FastAPI with SQLAlchemy as their documentation has it: OAuth2 scopes and PyJWT, a session per request, ORM entities.

A session that does not expire on commit is SQLAlchemy's advice for asyncio, and saves a query after each write.
"""

import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException, Query, Security, status
from fastapi.responses import PlainTextResponse
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from pydantic import BaseModel, ConfigDict, EmailStr, Field
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.peers.common import (
    ALGORITHM,
    AUDIENCE,
    DEFAULT_LIMIT,
    ISSUER,
    MAXIMUM_LIMIT,
    READ,
    WRITE,
    decode_cursor,
    encode_cursor,
    public_key,
)
from benchmarks.peers.sqlalchemy_models import User, engine, new_session


class UserOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    email: str
    display_name: str
    is_active: bool
    is_staff: bool
    created_at: datetime.datetime
    updated_at: datetime.datetime


class Page(BaseModel):
    items: list[UserOut]
    next_cursor: str | None


class UserCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    email: EmailStr
    display_name: str = Field(default="", max_length=150)


class UserUpdate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    email: EmailStr | None = None
    display_name: str | None = Field(default=None, max_length=150)
    is_active: bool | None = None


oauth2_scheme = OAuth2PasswordBearer(tokenUrl="token", scopes={READ: "Read users.", WRITE: "Create and change users."})


async def current_claims(
    security_scopes: SecurityScopes, token: Annotated[str, Depends(oauth2_scheme)]
) -> dict[str, object]:
    """The claims of a valid token that has the scopes which the route asks for."""
    challenge = {"WWW-Authenticate": f'Bearer scope="{security_scopes.scope_str}"'}
    try:
        claims = jwt.decode(token, public_key(), algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER)
    except jwt.InvalidTokenError:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "Could not validate credentials", challenge) from None
    granted = claims.get("scope", "").split()
    for scope in security_scopes.scopes:
        if scope not in granted:
            raise HTTPException(status.HTTP_403_FORBIDDEN, "Not enough permissions", challenge)
    return claims


async def get_session() -> AsyncIterator[AsyncSession]:
    async with new_session() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]
reads = Security(current_claims, scopes=[READ])
writes = Security(current_claims, scopes=[WRITE])


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/ping", response_class=PlainTextResponse)
async def ping() -> str:
    return "ok"


@app.get("/api/v1/users", response_model=Page, dependencies=[reads])
async def list_users(
    session: SessionDep,
    limit: Annotated[int, Query(ge=1, le=MAXIMUM_LIMIT)] = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> dict[str, Any]:
    try:
        after = decode_cursor(cursor)
    except ValueError:
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, "Invalid cursor") from None
    users = (await session.scalars(select(User).where(User.id > after).order_by(User.id).limit(limit + 1))).all()
    next_cursor = encode_cursor(users[limit - 1].id) if len(users) > limit else None
    return {"items": users[:limit], "next_cursor": next_cursor}


@app.get("/api/v1/users/{user_id}", response_model=UserOut, dependencies=[reads])
async def get_user(user_id: int, session: SessionDep) -> User:
    user = await session.get(User, user_id)
    if user is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "User not found")
    return user


@app.post("/api/v1/users", response_model=UserOut, status_code=status.HTTP_201_CREATED, dependencies=[writes])
async def create_user(new: UserCreate, session: SessionDep) -> User:
    user = User(email=new.email.lower(), display_name=new.display_name)
    session.add(user)
    try:
        await session.commit()
    except IntegrityError:
        raise HTTPException(status.HTTP_409_CONFLICT, "Email taken") from None
    return user


@app.patch("/api/v1/users/{user_id}", response_model=UserOut, dependencies=[writes])
async def change_user(user_id: int, changes: UserUpdate, session: SessionDep) -> User:
    user = await session.get(User, user_id)
    if user is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "User not found")
    for name, value in changes.model_dump(exclude_unset=True).items():
        setattr(user, name, value)
    try:
        await session.commit()
    except IntegrityError:
        raise HTTPException(status.HTTP_409_CONFLICT, "Email taken") from None
    return user
