"""Django Ninja, async, with the middleware of a new Django project and with orjson, as its documentation has it."""

import datetime
from typing import Annotated, Any

import jwt
import orjson
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.urls import path
from ninja import Field, NinjaAPI, PatchDict, Query, Schema, Status
from ninja.errors import HttpError
from ninja.parser import Parser
from ninja.renderers import BaseRenderer
from ninja.security import HttpBearer
from pydantic import ConfigDict, EmailStr

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
from benchmarks.peers.django_site.accounts.models import User


class UserOut(Schema):
    id: int
    email: str
    display_name: str
    is_active: bool
    is_staff: bool
    created_at: datetime.datetime
    updated_at: datetime.datetime


class Page(Schema):
    items: list[UserOut]
    next_cursor: str | None


class UserCreate(Schema):
    model_config = ConfigDict(extra="forbid")

    email: EmailStr
    display_name: str = Field("", max_length=150)


class UserUpdate(Schema):
    email: EmailStr
    display_name: str = Field(max_length=150)
    is_active: bool


class ORJSONRenderer(BaseRenderer):
    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes:
        return orjson.dumps(data)


class ORJSONParser(Parser):
    def parse_body(self, request: HttpRequest) -> Any:
        return orjson.loads(request.body)


class Bearer(HttpBearer):
    """A valid token that has one scope."""

    def __init__(self, scope: str) -> None:
        super().__init__()
        self.scope = scope

    async def authenticate(self, request: HttpRequest, token: str) -> dict[str, Any] | None:
        try:
            claims = jwt.decode(token, public_key(), algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER)
        except jwt.InvalidTokenError:
            return None
        if self.scope not in claims.get("scope", "").split():
            raise HttpError(403, "Not enough permissions")
        return claims


api = NinjaAPI(renderer=ORJSONRenderer(), parser=ORJSONParser())


@api.get("/v1/users", response=Page, auth=Bearer(READ))
async def list_users(
    request: HttpRequest,
    limit: Annotated[int, Query(ge=1, le=MAXIMUM_LIMIT)] = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> dict[str, Any]:
    try:
        after = decode_cursor(cursor)
    except ValueError:
        raise HttpError(422, "Invalid cursor") from None
    users = [user async for user in User.objects.filter(id__gt=after).order_by("id")[: limit + 1]]
    next_cursor = encode_cursor(users[limit - 1].id) if len(users) > limit else None
    return {"items": users[:limit], "next_cursor": next_cursor}


@api.get("/v1/users/{int:user_id}", response=UserOut, auth=Bearer(READ))
async def get_user(request: HttpRequest, user_id: int) -> User:
    try:
        return await User.objects.aget(id=user_id)
    except User.DoesNotExist:
        raise HttpError(404, "Not found") from None


@api.post("/v1/users", response={201: UserOut}, auth=Bearer(WRITE))
async def create_user(request: HttpRequest, payload: UserCreate) -> Status[User]:
    try:
        user = await User.objects.acreate(email=payload.email.lower(), display_name=payload.display_name)
    except IntegrityError:
        raise HttpError(409, "Email taken") from None
    return Status(201, user)


@api.patch("/v1/users/{int:user_id}", response=UserOut, auth=Bearer(WRITE))
async def change_user(request: HttpRequest, user_id: int, payload: PatchDict[UserUpdate]) -> User:
    try:
        user = await User.objects.aget(id=user_id)
    except User.DoesNotExist:
        raise HttpError(404, "Not found") from None
    for name, value in payload.items():
        setattr(user, name, value)
    try:
        await user.asave()
    except IntegrityError:
        raise HttpError(409, "Email taken") from None
    return user


async def ping(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok", content_type="text/plain")


urlpatterns = [path("ping", ping), path("api/", api.urls)]
