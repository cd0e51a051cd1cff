"""django-bolt, whose server and token check are in Rust, as its documentation has it.

Of the forms that it documents for answers, plain msgspec structs were the fastest here, so that is what stands below.
A page reads their fields' values alone, as bolt itself does with a queryset that a handler returns. One user is read
whole: what Django does to leave fields out costs more than the fields.
"""

import datetime
from typing import Annotated, Any

from django.db import IntegrityError
from django_bolt import BoltAPI
from django_bolt.auth import JWTAuthentication, Requires
from django_bolt.exceptions import Conflict, NotFound, UnprocessableEntity
from django_bolt.responses import PlainText
from django_bolt.serializers import Char150, Email, Serializer
from msgspec import UNSET, Meta, Struct, UnsetType, convert

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
    public_pem,
)
from benchmarks.peers.django_site.accounts.models import User


class UserOut(Struct):
    id: int
    email: str
    display_name: str
    is_active: bool
    is_staff: bool
    created_at: datetime.datetime
    updated_at: datetime.datetime


class Page(Struct):
    items: list[UserOut]
    next_cursor: str | None


class UserCreate(Serializer, forbid_unknown_fields=True):
    email: Email
    display_name: Char150 = ""


class UserUpdate(Serializer, forbid_unknown_fields=True):
    email: Email | UnsetType = UNSET
    display_name: Char150 | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET


api = BoltAPI()
auth = [JWTAuthentication(public_key=public_pem(), algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER)]
# The scope claim is one text with spaces, which bolt compares whole, in Rust: so each whole text that will do is named.
BOTH = f"{READ} {WRITE}"
reads = [Requires("scope", READ, BOTH)]
writes = [Requires("scope", WRITE, BOTH)]


@api.get("/ping")
async def ping() -> PlainText:
    return PlainText("ok")


@api.get("/api/v1/users", auth=auth, guards=reads)
async def list_users(
    limit: Annotated[int, Meta(ge=1, le=MAXIMUM_LIMIT)] = DEFAULT_LIMIT, cursor: str | None = None
) -> Page:
    try:
        after = decode_cursor(cursor)
    except ValueError:
        raise UnprocessableEntity(detail="Invalid cursor") from None
    found = User.objects.filter(id__gt=after).order_by("id").values(*UserOut.__struct_fields__)[: limit + 1]
    users = convert([values async for values in found], list[UserOut])
    next_cursor = encode_cursor(users[limit - 1].id) if len(users) > limit else None
    return Page(items=users[:limit], next_cursor=next_cursor)


@api.get("/api/v1/users/{user_id}", auth=auth, guards=reads)
async def get_user(user_id: int) -> UserOut:
    return _shown(await _find(user_id))


@api.post("/api/v1/users", status_code=201, auth=auth, guards=writes)
async def create_user(data: UserCreate) -> UserOut:
    try:
        user = await User.objects.acreate(email=data.email.lower(), display_name=data.display_name)
    except IntegrityError:
        raise Conflict(detail="Email taken") from None
    return _shown(user)


@api.patch("/api/v1/users/{user_id}", auth=auth, guards=writes)
async def change_user(user_id: int, data: UserUpdate) -> UserOut:
    user = await _find(user_id)
    changes: dict[str, Any] = {name: value for name, value in data.to_dict().items() if value is not UNSET}
    for name, value in changes.items():
        setattr(user, name, value)
    try:
        await user.asave()
    except IntegrityError:
        raise Conflict(detail="Email taken") from None
    return _shown(user)


def _shown(user: User) -> UserOut:
    return convert(user, UserOut, from_attributes=True)


async def _find(user_id: int) -> User:
    try:
        return await User.objects.aget(id=user_id)
    except User.DoesNotExist:
        raise NotFound(detail="No such user") from None
