"""Dispatch to direct routes: it finds the route that the router would, and fails and is wrapped as FastAPI is."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Match, Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_app.core.direct import DirectRoute
from fastapi_app.core.dispatch import DirectApi, RouteIndex

# A few words, and a few kinds of parameter under the same names, so that many paths match more than one route.
SEGMENTS = st.sampled_from(
    ["users", "me", "7", "a.b", "{id}", "{id:int}", "{name}", "{name:path}", "{x:uuid}", "{x:float}"]
)
WORDS = st.sampled_from(["users", "me", "7", "-7", "7.5", "a.b", "aXb", "", "?P<id>", "x" * 3, "0" * 32, "é", "\n"])
METHODS = st.sampled_from(["GET", "HEAD", "POST", "DELETE"])


async def endpoint(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("here")


class AnyMethod:
    """An endpoint that is an ASGI app: it has no list of methods."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("any")(scope, receive, send)


@st.composite
def route_tables(draw: st.DrawFn) -> list[BaseRoute]:
    def path() -> str:
        segments = draw(
            st.lists(SEGMENTS, min_size=1, max_size=3, unique_by=lambda one: one.partition(":")[0].strip("}"))
        )
        return "/" + "/".join(segments)

    kinds: dict[str, Callable[[], BaseRoute]] = {
        "route": lambda: Route(path(), endpoint, methods=draw(st.lists(METHODS, min_size=1))),
        "any": lambda: Route(path(), AnyMethod()),
        "mount": lambda: Mount(path(), AnyMethod()),
        "websocket": lambda: WebSocketRoute(path(), endpoint),
    }
    common = ["route"] * 8
    names = draw(st.lists(st.sampled_from([*common, "any", "mount", "websocket"]), max_size=12))
    return [kinds[name]() for name in names]


@given(route_tables(), st.lists(WORDS, max_size=4), METHODS, st.sampled_from(["", "/api", "/api/deeper"]))
def test_index__any_routes__finds_what_the_router_would(
    routes: list[BaseRoute], words: list[str], method: str, root_path: str
) -> None:
    def scope() -> dict[str, Any]:
        path = root_path + "".join(f"/{word}" for word in words)
        return {"type": "http", "method": method, "path": path, "root_path": root_path, "path_params": {"outer": 1}}

    asked = scope()
    found = RouteIndex(routes).find(asked)

    matches = [(route, route.matches(scope())) for route in routes]
    first = next(((route, child) for route, (match, child) in matches if match is Match.FULL), None)
    is_before_other_kinds = first and all(isinstance(route, Route) for route in routes[: routes.index(first[0])])
    if found is not None:
        assert first is not None
        assert (found, asked["path_params"]) == (first[0], first[1]["path_params"])
    elif first is not None and is_before_other_kinds and isinstance(first[0], Route):
        assert first[0].methods is None, "whoever has a list of methods is in the index"


class Marks:
    """Middleware as teams add it: marks each response, whoever makes it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        def send_marked(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-marked", scope["app"].title.encode())]
            return send(message)

        return self.app(scope, receive, send_marked)


class Teapot(Exception):
    """For which the app has a handler."""


async def answer_teapot(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"is": "a teapot"}, 418)


async def answer_unexpected(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"unexpected": str(error), "path": request.url.path}, 500)


async def numbers() -> AsyncIterator[bytes]:
    yield b"1"
    raise Teapot


def api() -> FastAPI:
    app = DirectApi(title="Marked", exception_handlers={Teapot: answer_teapot, Exception: answer_unexpected})
    app.add_middleware(Marks)

    @app.get("/ordinary")
    async def get_ordinary() -> dict[str, int]:
        return {"ordinary": 1}

    async def get_direct(kind: str, request: Request) -> dict[str, str]:
        match kind:
            case "teapot":
                raise Teapot
            case "bug":
                raise ZeroDivisionError("a bug")
            case "stream":
                return StreamingResponse(numbers())  # type: ignore[return-value]
        return {"kind": kind, "app": request.app.title, "url": str(request.url_for("get_ordinary"))}

    app.router.add_api_route("/direct/{kind}", get_direct, route_class_override=DirectRoute)

    app.mount("/mounted", AnyMethod())

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.app.title)
        await websocket.close()

    return app


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/direct/one", 200, {"kind": "one", "app": "Marked", "url": "http://test/ordinary"}),
        ("/direct/teapot", 418, {"is": "a teapot"}),
        ("/direct/bug", 500, {"unexpected": "a bug", "path": "/direct/bug"}),
        ("/ordinary", 200, {"ordinary": 1}),
        ("/nowhere", 404, {"detail": "Not Found"}),
        ("/direct/one%0A", 404, {"detail": "Not Found"}),
        ("/ordinary%0A", 404, {"detail": "Not Found"}),
        ("/mounted/%0A", 404, {"detail": "Not Found"}),
        ("/direct/o%0Ane", 200, {"kind": "o\nne", "app": "Marked", "url": "http://test/ordinary"}),
    ],
)
def test_app__added_middleware__sees_every_response(path: str, status: int, body: dict[str, Any]) -> None:
    answer = TestClient(api(), base_url="http://test", raise_server_exceptions=False).get(path)

    assert (answer.status_code, answer.json()) == (status, body)
    assert answer.headers.get_list("x-marked") == ["Marked"], "once, also around an error"


def test_app__middleware_added_once_it_serves__is_refused_as_by_starlette() -> None:
    app = api()
    TestClient(app).get("/direct/one")

    with pytest.raises(RuntimeError, match="Cannot add middleware"):
        app.add_middleware(Marks)


def test_direct_route__an_unexpected_error__is_answered_and_goes_on_to_the_server() -> None:
    with pytest.raises(ZeroDivisionError, match="a bug"):
        TestClient(api()).get("/direct/bug")


def test_app__a_websocket__is_served_through_its_middleware() -> None:
    with TestClient(api()).websocket_connect("/socket") as session:
        assert session.receive_text() == "Marked"


@pytest.mark.asyncio
async def test_direct_route__an_error_after_the_response_began__is_not_answered_again() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/direct/stream", "headers": [], "query_string": b""}
    with pytest.raises((Teapot, ExceptionGroup)):
        await api()(scope, receive, send)

    assert [message["type"] for message in sent].count("http.response.start") == 1
    assert not any(message.get("body") == b"" for message in sent), "no end: the client sees that it is broken off"


@pytest.mark.asyncio
async def test_direct_route__under_a_mount__has_the_parameters_of_both_paths() -> None:
    async def get_parameters(name: str, request: Request) -> dict[str, Any]:
        return {"name": name, **request.path_params}

    app = DirectApi()
    app.router.add_api_route("/{name}", get_parameters, route_class_override=DirectRoute)
    transport = httpx2.ASGITransport(Mount("/of/{place}", app))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/of/here/ada")).json() == {"name": "ada", "place": "here"}
