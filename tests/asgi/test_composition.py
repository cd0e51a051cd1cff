"""How the two halves stand under one root: addresses, state, ids, limits, refusals."""

import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, NoMatchFound, Route, Router
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi import app
from fastapi_app.app import create_api
from fastapi_app.core.direct import DirectRoute
from project.middleware import BodyLimit
from project.mounts import MountBeforeRouter, MountedLifespanError, mount

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def a_lifespan(_app: object) -> AsyncIterator[None]:
    yield


def fastapi_including(router: APIRouter) -> FastAPI:
    api = FastAPI()
    api.include_router(router)
    return api


def with_start_up_handler() -> FastAPI:
    api = FastAPI()
    api.router.add_event_handler("startup", print)
    return api


def router_with_shut_down_handler() -> APIRouter:
    router = APIRouter()
    router.add_event_handler("shutdown", print)
    return router


def including_two(first: APIRouter, second: APIRouter) -> APIRouter:
    router = APIRouter()
    router.include_router(first, prefix="/first")
    router.include_router(second, prefix="/second")
    return router


@pytest.mark.parametrize(
    "declare",
    [
        lambda: FastAPI(lifespan=a_lifespan),
        lambda: Starlette(lifespan=a_lifespan),
        lambda: Router(lifespan=a_lifespan),
        with_start_up_handler,
        lambda: fastapi_including(APIRouter(lifespan=a_lifespan)),
        lambda: fastapi_including(router_with_shut_down_handler()),
        lambda: fastapi_including(including_two(APIRouter(), APIRouter(lifespan=a_lifespan))),
        lambda: GZipMiddleware(FastAPI(lifespan=a_lifespan)),
        lambda: Starlette(routes=[Mount("/deeper", FastAPI(lifespan=a_lifespan))]),
        lambda: Starlette(routes=[Mount("/", FastAPI(lifespan=a_lifespan), middleware=[Middleware(GZipMiddleware)])]),
    ],
    ids=[
        "fastapi", "starlette", "router", "start-up handler", "included router", "included shut-down handler",
        "included twice over", "behind middleware", "mounted deeper", "mounted behind middleware",
    ],
)  # fmt: skip
async def test_mount__an_app_declares_a_lifespan__is_refused_with_the_cure(declare: Callable[[], ASGIApp]) -> None:
    with pytest.raises(MountedLifespanError, match=r"'/sub.*move what it opens into the root's lifespan in asgi.py"):
        mount("/sub", declare())


@pytest.mark.parametrize(
    "declare",
    [
        FastAPI,
        Starlette,
        lambda: fastapi_including(including_two(APIRouter(), APIRouter())),
        lambda: GZipMiddleware(FastAPI()),
        lambda: lambda scope, receive, send: None,
    ],
    ids=["fastapi", "starlette", "included routers", "behind middleware", "plain function"],
)
async def test_mount__no_lifespan__is_mounted(declare: Callable[[], ASGIApp]) -> None:
    assert isinstance(mount("/sub", declare()), Mount)


async def test_mounted_lifespan__if_it_were_not_refused__would_never_run() -> None:
    ran = []

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        ran.append("it")
        yield

    with TestClient(Starlette(routes=[Mount("/sub", FastAPI(lifespan=lifespan))])):
        pass

    assert ran == [], "the day this fails, project/mounts.py can go"


@pytest.mark.parametrize("root_path", ["", "/behind/a/proxy"])
@pytest.mark.parametrize(
    ("name", "parameters", "address"),
    [
        ("get_user", {"user_id": 5}, "/api/v1/users/5"),
        ("where", {}, "/api/where"),
        ("deeper", {"number": 7}, "/api/deeper/7"),
        ("below:named", {}, "/api/below/named"),
        ("healthz", {}, "/healthz"),
        ("nobody", {}, "none"),
    ],
)
async def test_url_for__from_either_half__is_as_a_mount_of_starlettes_has_it(
    name: str, parameters: dict[str, int], address: str, root_path: str
) -> None:
    async def where(request: Request) -> dict[str, str]:
        try:
            return {"url": str(request.url_for(name, **parameters))}
        except NoMatchFound:
            return {"url": f"http://testserver{root_path}none"}

    async def answer(request: Request) -> Response:
        return JSONResponse(await where(request))

    api = create_api()
    api.add_api_route("/where", where)
    api.router.add_api_route("/direct", where, route_class_override=DirectRoute)
    api.mount("/deeper", Starlette(routes=[Route("/{number}", answer, name="deeper")]))
    api.mount("/below", Starlette(routes=[Route("/named", answer, name="named")]), name="below")
    healthz = Route("/healthz", answer, name="healthz")
    here = Starlette(routes=[healthz], middleware=[Middleware(MountBeforeRouter, "/api", api)])
    starlettes = Starlette(routes=[mount("/api", api), healthz])

    for root in (here, starlettes):
        transport = httpx2.ASGITransport(root, root_path=root_path)
        async with httpx2.AsyncClient(transport=transport, base_url=f"http://testserver{root_path}") as client:
            for path in ("/api/where", "/api/direct", "/api/deeper/1", "/api/below/named", "/healthz"):
                assert (await client.get(path)).json() == {"url": f"http://testserver{root_path}{address}"}, path


@pytest.mark.parametrize("path", ["/api/v1/users", "/admin/", "/healthz"])
async def test_request__over_a_bare_transport__names_the_cure(path: str) -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://testserver") as client:
        with pytest.raises(RuntimeError, match=r"lifespan did not run.*asgi_lifespan.LifespanManager"):
            await client.get(path)


async def test_home__names_what_runs_here_and_links_to_it(client: httpx2.AsyncClient) -> None:
    page = await client.get("/")

    assert page.status_code == 200
    for address in ("/admin/", "/api/docs", "/readyz"):
        assert f'href="{address}"' in page.text
        assert (await client.get(address, follow_redirects=True)).status_code == 200


async def test_api__without_its_slash__leads_to_the_documentation(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/api", follow_redirects=True)

    assert [hop.headers["location"] for hop in answer.history] == ["http://testserver/api/", "/api/v1/docs"]
    assert "swagger-ui-bundle.js" in answer.text


async def test_docs__load_nothing_from_elsewhere(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/api/v1/docs")).text

    assert "https://" not in page
    for address in (part.split('"')[0] for part in page.split('"/static/')[1:]):
        assert (await client.get(f"/static/{address}")).status_code == 200, address


async def test_openapi__under_the_mount__has_the_right_addresses(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/api/v1/openapi.json")).json()

    assert document["servers"] == [{"url": "/api/v1"}]
    assert "/users/{user_id}" in document["paths"]


async def test_openapi__every_reference__leads_somewhere(client: httpx2.AsyncClient) -> None:
    text = (await client.get("/api/v1/openapi.json")).text

    schemas = json.loads(text)["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= set(schemas)
    assert {"Problem", "FieldError", "UserOut"} <= set(schemas)
    assert "HTTPValidationError" not in schemas, "a 422 is a problem like any other"


async def test_path__that_only_begins_like_the_api__is_djangos(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/apix")

    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")


async def test_request_id__sane__is_kept(client: httpx2.AsyncClient) -> None:
    for path in ("/admin/login/", "/api/v1/users", "/healthz"):
        answer = await client.get(path, headers={"x-request-id": "trace-0123.4567_89"})
        assert answer.headers.get_list("x-request-id") == ["trace-0123.4567_89"], path


@pytest.mark.parametrize(
    "odd", ["", "short", "x" * 65, "with space in it", "new\tline12345", "ünïcödé-id", "<script>alert"]
)
async def test_request_id__odd__is_replaced(odd: str, client: httpx2.AsyncClient) -> None:
    answer = await client.get("/healthz", headers=[(b"x-request-id", odd.encode())])

    assert len(answer.headers["x-request-id"]) == 32
    assert answer.headers["x-request-id"].isalnum()


async def test_request_id__is_in_the_log_and_in_the_problem(
    client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="django.request"):
        await client.get("/nowhere", headers={"x-request-id": "a-page-that-is-not"})
    problem = (await client.get("/api/nowhere", headers={"x-request-id": "a-route-that-is-not"})).json()

    (line,) = (logging.getLogger().handlers[0].format(record) for record in caplog.records)
    assert "[a-page-that-is-not]" in line
    assert problem["request_id"] == "a-route-that-is-not"


@pytest.mark.parametrize(
    ("host", "status"),
    [("testserver", 200), ("TESTSERVER:8000", 200), ("evil.example", 400), ("testserver.evil.example", 400), ("", 400)],
)
async def test_host__only_the_named_ones_are_served(host: str, status: int, client: httpx2.AsyncClient) -> None:
    for path in ("/admin/login/", "/api/v1/docs", "/healthz"):
        assert (await client.get(path, headers={"host": host})).status_code == status, path


async def test_host__unknown_to_the_api__is_a_problem(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/api/docs", headers={"host": "evil.example"})

    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "Invalid host header"


async def pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 65536):
        yield b"x" * 65536


# Django leaves the file that it reads a body into to the garbage collector when the body ends in an exception.
@pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.SpooledTemporaryFile:ResourceWarning")
@pytest.mark.parametrize("path", ["/api/v1/users", "/admin/login/"])
async def test_body__ten_megabytes__is_refused_by_both_halves(path: str, writer: httpx2.AsyncClient) -> None:
    at_once = await writer.post(path, content=b"x" * 10_000_000)
    streamed = await writer.post(path, content=pieces(10_000_000))

    for answer in (at_once, streamed):
        assert answer.status_code == 413
        assert answer.headers["x-request-id"]
        is_api = path.startswith("/api")
        assert answer.headers["content-type"].startswith("application/problem+json" if is_api else "text/plain")


@pytest.mark.parametrize(
    "announced",
    [
        [(b"content-length", b"11")],
        [(b"content-length", b"9" * 5000)],
        [(b"content-length", b"-5")],
        [(b"content-length", b"0x5")],
        [(b"content-length", b"\xd9\xa5")],  # An Arabic five.
        [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"chunked")],
    ],
)
async def test_body__whose_length_cannot_be_relied_upon__is_counted(announced: list[tuple[bytes, bytes]]) -> None:
    sent: list[Message] = []

    async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(await Request(scope, receive).body())(scope, receive, send)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * 11}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "http_version": "1.1", "headers": announced}
    await BodyLimit(read_all, 10)(scope, receive, send)

    assert sent[0]["status"] == 413
