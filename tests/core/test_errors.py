"""What errors look like from outside, and which are the database's circumstances."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import HTTPException
from fastapi.routing import APIRoute
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from fastapi_app.core.direct import DirectRoute
from fastapi_app.core.dispatch import DirectApi
from fastapi_app.core.edge import COMPRESS_FROM_BYTES, Compression
from fastapi_app.core.errors import HANDLERS, is_unavailable, json_pointer
from fastapi_app.core.problems import ProblemResponses
from project.deadline import Deadline


class FromDriver(Exception):
    def __init__(self, sqlstate: str | None = None) -> None:
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PoolTimeoutError(), True),
        (OperationalError("", None, FromDriver()), True),
        (DBAPIError("", None, FromDriver("57P01")), True),
        (DBAPIError("", None, FromDriver("40001")), True),
        (DBAPIError("", None, FromDriver("53300")), True),
        (DBAPIError("", None, FromDriver("08006"), connection_invalidated=True), True),
        (DBAPIError("", None, FromDriver("42P01")), False),
        (DBAPIError("", None, FromDriver()), False),
        (IntegrityError("", None, FromDriver("23505")), False),
        (LookupError(), False),
        (asyncpg.ConnectionDoesNotExistError(), True),
        (asyncpg.AdminShutdownError(), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.InterfaceError("cannot call Connection.fetch(): connection has been released back to the pool"), True),
        (asyncpg.InterfaceError("the server expects 1 argument"), False),
        (asyncpg.InternalClientError(), True),
        (asyncpg.UndefinedTableError(), False),
        (asyncpg.UniqueViolationError(), False),
    ],
)
def test_is_unavailable__circumstance_or_mistake(error: Exception, expected: bool) -> None:
    assert is_unavailable(error) is expected


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ([], "#"),
        (["email"], "#/email"),
        (["items", 0, "a/b"], "#/items/0/a~1b"),
        (["~", "é ü", "%"], "#/~0/%C3%A9%20%C3%BC/%25"),
        (["\ud800"], "#/%3F"),
    ],
)
def test_json_pointer__as_rfc_6901_writes_it_in_a_fragment(path: list[str | int], pointer: str) -> None:
    assert json_pointer(path) == pointer


async def plain(_request: Request) -> Response:
    return PlainTextResponse("No, because.", 418, {"x-kept": "yes"})


async def phrase(_request: Request) -> Response:
    return PlainTextResponse("Not Found", 404)


async def unregistered(_request: Request) -> Response:
    return PlainTextResponse("The client has gone.", 499)


async def with_cookies(_request: Request) -> Response:
    response = PlainTextResponse("No.", 401)
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


async def long(_request: Request) -> Response:
    return PlainTextResponse("x" * COMPRESS_FROM_BYTES, 400)


async def of_its_own(_request: Request) -> Response:
    return JSONResponse({"mine": True}, 409)


async def fine(_request: Request) -> Response:
    return PlainTextResponse("fine")


async def stream(_request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"No, ", b"for two ", b"reasons."):
            yield piece

    return StreamingResponse(pieces(), 500, media_type="text/plain")


async def stalled(_request: Request) -> Response:
    await asyncio.sleep(60)
    return Response()


async def slow_stream(_request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(4):
            await asyncio.sleep(0.1)
            yield b"x"

    return StreamingResponse(pieces(), media_type="text/plain")


async def times_out_by_itself(_request: Request) -> Response:
    raise TimeoutError("its own")


ENDPOINTS = (
    plain, phrase, unregistered, with_cookies, long, of_its_own, fine, stream, stalled, slow_stream,
    times_out_by_itself,
)  # fmt: skip
APP = Starlette(
    middleware=[Middleware(ProblemResponses, prefix="/api"), Middleware(Deadline, 0.2), Middleware(Compression)],
    routes=[
        Route(f"{prefix}/{endpoint.__name__}", endpoint) for endpoint in ENDPOINTS for prefix in ("/api", "/other")
    ],
)


async def get(path: str, app: ASGIApp = APP, accept_encoding: str = "identity") -> httpx2.Response:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://testserver") as client:
        return await client.get(path, headers={"accept-encoding": accept_encoding})


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("plain", 418, "No, because."),
        ("phrase", 404, None),
        ("unregistered", 499, "The client has gone."),
        ("with_cookies", 401, "No."),
        ("long", 400, "x" * COMPRESS_FROM_BYTES),
        ("stream", 500, "No, for two reasons."),
        ("stalled", 504, "No answer within 0.2 s."),
    ],
)
async def test_plain_error__below_the_prefix__becomes_a_problem(path: str, status: int, detail: str | None) -> None:
    answer = await get(f"/api/{path}")

    problem: dict[str, Any] = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem.get("detail") == detail
    assert answer.headers.get("x-kept") == ("yes" if path == "plain" else None)
    assert len(answer.headers.get_list("set-cookie")) == (2 if path == "with_cookies" else 0)
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.asyncio
async def test_plain_error__compressed__can_be_read() -> None:
    answer = await get("/api/long", accept_encoding="gzip")

    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text == "x" * COMPRESS_FROM_BYTES


@pytest.mark.asyncio
@pytest.mark.parametrize("route_class", [APIRoute, DirectRoute])
@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (204, None),
        (205, None),
        (304, None),
        (418, {"type": "about:blank", "title": "I'm a Teapot", "status": 418, "detail": "because"}),
        (499, {"type": "about:blank", "title": "Bad Request", "status": 499, "detail": "because"}),
        (599, {"type": "about:blank", "title": "Internal Server Error", "status": 599, "detail": "because"}),
    ],
)
async def test_http_exception__any_status__is_sent_with_the_body_that_it_may_have(
    status: int, problem: dict[str, Any] | None, route_class: type[APIRoute]
) -> None:
    async def refuse() -> dict[str, str]:
        raise HTTPException(status, "because", {"ETag": '"1"'})

    api = DirectApi(exception_handlers=HANDLERS)
    api.router.add_api_route("/refuse", refuse, route_class_override=route_class)
    answer = await get("/refuse", api)

    assert (answer.status_code, answer.headers["etag"]) == (status, '"1"')
    assert (answer.json() if problem else answer.content) == (problem or b"")
    assert ("content-type" in answer.headers) is (problem is not None)


@pytest.mark.asyncio
async def test_other_responses__stay_as_they_are() -> None:
    assert (await get("/other/plain")).text == "No, because."
    assert (await get("/apish/plain")).text == "Not Found"
    assert (await get("/api/fine")).text == "fine"
    assert (await get("/api/of_its_own")).json() == {"mine": True}


@pytest.mark.asyncio
async def test_deadline__the_response_has_begun__may_take_its_time() -> None:
    assert (await get("/other/slow_stream")).text == "xxxx"


@pytest.mark.asyncio
async def test_deadline__a_time_out_of_the_apps_own__is_not_its_business() -> None:
    with pytest.raises(TimeoutError, match="its own"):
        await get("/other/times_out_by_itself")
