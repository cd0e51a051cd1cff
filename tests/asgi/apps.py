"""The product's own app, with routes that misbehave and resources that can be made to fail: served by a real uvicorn.

``RESOURCE_FAULT="NAME: FAULT"`` makes the resource of that name fail to open, hang while opening, or hang while
closing. Every opening and closing is printed. ``STREAM_READ_S`` is the constant of that name.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from fastapi import APIRouter
from sqlalchemy import Connection, Engine, event, text
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

import asgi
from fastapi_app.core.bridge import call_django
from fastapi_app.core.database import Session
from fastapi_app.core.resources import ResourceStack
from fastapi_app.core.routing import ContractRoute
from project import threads, urls
from project.accounts.models import User

HANG_S = 3600.0


class TracedResource[T](AbstractAsyncContextManager[T]):
    """A resource that prints when it is opened and closed, and fails on demand."""

    def __init__(self, name: str, resource: AbstractAsyncContextManager[T]) -> None:
        self.name = name
        self.resource = resource
        faulty, _, fault = os.environ.get("RESOURCE_FAULT", "").partition(": ")
        self.fault = fault if faulty == name else ""

    async def __aenter__(self) -> T:
        if self.fault == "fails":
            raise OSError("injected\nfault")
        if self.fault == "hangs":
            await asyncio.sleep(HANG_S)
        value = await self.resource.__aenter__()
        print(f"opened {self.name}", flush=True)
        return value

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.fault == "hangs on closing":
            await asyncio.sleep(HANG_S)
        await self.resource.__aexit__(kind, error, traceback)
        print(f"closed {self.name}", flush=True)


_open = ResourceStack.open


async def open_traced[T](self: ResourceStack, name: str, resource: AbstractAsyncContextManager[T]) -> T:
    return await _open(self, name, TracedResource(name, resource))


ResourceStack.open = open_traced  # type: ignore[method-assign]
threads.STREAM_READ_S = float(os.environ.get("STREAM_READ_S", threads.STREAM_READ_S))

if commit_delay_s := float(os.environ.get("COMMIT_DELAY_S", "0")):

    @event.listens_for(Engine, "commit")
    def delay_commit(_connection: Connection) -> None:
        time.sleep(commit_delay_s)


def backend_pid() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        return int(cursor.fetchone()[0])


router = APIRouter(prefix="/test")


@router.get("/sleep")
async def sleep(seconds: float) -> str:
    print("request began", flush=True)
    await asyncio.sleep(seconds)
    return "slept"


@router.post("/echo")
async def echo(request: Request) -> dict[str, Any]:
    """What came: the length of the body, and the names of the header fields."""
    return {"length": len(await request.body()), "headers": sorted(request.headers)}


@router.post("/hasty")
async def hasty() -> str:
    """An answer before the body has come."""
    return "answered"


@router.get("/django-sleep")
async def django_sleep(seconds: float) -> str:
    await call_django(time.sleep, seconds)
    return "slept"


@router.get("/backend-pid")
async def get_backend_pid() -> int:
    return await call_django(backend_pid)


@router.get("/boom")
async def boom() -> None:
    raise LookupError("the secret is 42")


async def direct_boom() -> dict[str, str]:
    raise LookupError("the secret is 42")


async def pieces_of_a_stream() -> AsyncIterator[bytes]:
    yield b"the beginning"
    raise LookupError("in the middle")


@router.get("/breaks-off")
async def breaks_off() -> StreamingResponse:
    return StreamingResponse(pieces_of_a_stream())


@router.get("/too-short")
async def too_short() -> Response:
    return Response("short", headers={"content-length": "100"})


@router.post("/write-then-sleep")
async def write_then_sleep(session: Session, email: str, seconds: float) -> str:
    await session.execute(text("insert into accounts_user (email) values (:email)"), {"email": email})
    print("request began", flush=True)
    await asyncio.sleep(seconds)
    await session.commit()
    return "written"


@router.post("/commit-fails", status_code=201)
async def commit_fails(session: Session) -> str:
    """Django's foreign keys are checked at COMMIT."""
    await session.execute(text("insert into accounts_user_groups (user_id, group_id) values (-1, -1)"))
    await session.commit()
    return "written"


def sleep_in_database(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("select pg_sleep(%s)", [float(request.GET["seconds"])])
    return HttpResponse("slept")


running_pages = 0


def overlap(request: HttpRequest) -> HttpResponse:
    """How many of these pages run at once, this one included."""
    global running_pages  # noqa: PLW0603
    running_pages += 1
    most = running_pages
    print("page began", flush=True)
    deadline = time.monotonic() + float(request.GET["seconds"])
    while time.monotonic() < deadline:
        time.sleep(0.01)
        most = max(most, running_pages)
    running_pages -= 1
    return HttpResponse(str(most))


def large(_request: HttpRequest) -> HttpResponse:
    """A page that is more than sockets buffer, and needed a connection."""
    return HttpResponse(b"x" * (8_000_000 + User.objects.count()))


def emails_of(domain: str) -> QuerySet[User, str]:
    return User.objects.filter(email__endswith=f"@{domain}").order_by("email").values_list("email", flat=True)


def emails_of_users(_request: HttpRequest) -> StreamingHttpResponse:
    """A stream that has begun its query, and goes on with it."""
    emails = emails_of("stream.example").iterator(chunk_size=2)
    first = next(emails)

    def lines() -> Iterator[str]:
        yield f"{first}\n"
        yield from (f"{email}\n" for email in emails)

    return StreamingHttpResponse(lines())


async def emails_of_users_async(_request: HttpRequest) -> StreamingHttpResponse:
    async def lines() -> AsyncIterator[str]:
        async for email in emails_of("stream.example").aiterator(chunk_size=2):
            yield f"{email}\n"

    return StreamingHttpResponse(lines())


async def endless(request: HttpRequest) -> StreamingHttpResponse:
    """A stream without an end, that may query."""

    async def pieces() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)  # Or nobody would notice that the client has gone.
            yield b"x" * (100_000 + (await User.objects.acount() if "query" in request.GET else 0))

    return StreamingHttpResponse(pieces())


def page_boom(_request: HttpRequest) -> HttpResponse:
    raise LookupError("the secret is 42")


async def page_breaks_off(_request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(pieces_of_a_stream())


async def root_boom(_request: Request) -> Response:
    raise LookupError("the secret is 42")


def show_backend_pid(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(backend_pid()))


def show_state(request: HttpRequest) -> HttpResponse:
    state: dict[str, Any] = request.scope["state"]  # type: ignore[attr-defined]
    return HttpResponse(str(id(state["resources"])))


@router.get("/state")
async def get_state(request: Request) -> str:
    return str(id(request.state.resources))


urls.urlpatterns[:0] = [
    path("test/sleep-in-database", sleep_in_database),
    path("test/overlap", overlap),
    path("test/large", large),
    path("test/stream", emails_of_users),
    path("test/async-stream", emails_of_users_async),
    path("test/endless-stream", endless),
    path("test/boom", page_boom),
    path("test/breaks-off", page_breaks_off),
    path("test/backend-pid", show_backend_pid),
    path("test/state", show_state),
]
asgi.api.include_router(router)
asgi.api.router.add_api_route("/test/direct-boom", direct_boom, route_class_override=ContractRoute)
asgi.app.router.routes.insert(0, Route("/root-boom", root_boom))
app = asgi.app
