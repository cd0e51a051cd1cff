"""Direct routes: whatever is asked, they answer what FastAPI would, and call what FastAPI would call."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Body, Cookie, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel

from fastapi_app.app import create_api
from fastapi_app.core.direct import DirectRoute
from fastapi_app.core.dispatch import DirectApi
from fastapi_app.core.errors import HANDLERS, NotFound

pytestmark = pytest.mark.asyncio

called: list[str] = []


class Item(BaseModel):
    id: int
    name: str = "none"
    tags: list[str] = []


async def caller(authorization: Annotated[str, Header()] = "nobody") -> str:
    called.append("caller")
    return authorization


class Requires:
    async def __call__(self, request: Request, who: Annotated[str, Depends(caller)]) -> None:
        called.append(f"requires {request.method}")
        if who == "nobody":
            raise NotFound("not for you")


async def limit(limit: Annotated[int, Query(ge=1, le=9)] = 5) -> int:
    called.append("limit")
    return limit


async def page(size: Annotated[int, Depends(limit)], after: int = 0) -> tuple[int, int]:
    called.append("page")
    return after, size


async def counted(response: Response) -> None:
    called.append("counted")
    response.headers["X-Count"] = "1"


async def accepted(response: Response) -> None:
    response.status_code = 202


class After:
    """A class as a dependency: FastAPI makes an instance, and leaves calling it to the endpoint."""

    def __init__(self, after: int = 0) -> None:
        self.after = after

    async def __call__(self) -> int:
        return -1


async def tenant(tenant: Annotated[str, Path()]) -> str:
    return tenant


async def opened() -> AsyncIterator[str]:
    called.append("opened")
    yield "open"
    called.append("closed")


def slow() -> str:
    return "from a thread"


router = APIRouter()
Caller = Annotated[str, Depends(caller)]


@router.get("/items/{item_id}", dependencies=[Depends(Requires()), Depends(counted)])
async def get_item(item_id: Annotated[int, Path(ge=1)], who: Caller, session: Annotated[str, Cookie()] = "-") -> Item:
    called.append("get_item")
    return Item(id=item_id, name=f"{who} {session}")


@router.get("/items")
async def list_items(
    page: Annotated[tuple[int, int], Depends(page)], tag: Annotated[list[str], Query(default_factory=list)]
) -> list[Item]:
    called.append("list_items")
    return [Item(id=number, tags=tag) for number in page]


@router.get("/dict/{name}", response_model=Item, status_code=202)
async def get_dict(name: str) -> dict[str, Any]:
    return {"id": name, "name": name, "secret": "never shown"}


@router.get("/response")
async def get_response(_: Annotated[None, Depends(counted)]) -> Item:
    return PlainTextResponse("as it is")  # type: ignore[return-value]


@router.get("/accepted")
async def get_accepted(_: Annotated[None, Depends(accepted)]) -> Item:
    return Item(id=3)


@router.get("/status/{status}")
async def get_status(status: int, response: Response) -> Item:
    before, response.status_code = response.status_code, status
    response.headers["ETag"] = '"1"'
    return Item(id=1, name=f"before: {before}")


@router.get("/class")
async def get_class(found: Annotated[After, Depends()]) -> Item:
    return Item(id=found.after)


@router.get("/not-in-path")
async def get_not_in_path(tenant: Annotated[str, Depends(tenant)]) -> Item:
    return Item(id=1, name=tenant)


@router.get("/opened")
async def get_opened(state: Annotated[str, Depends(opened)]) -> Item:
    return Item(id=1, name=state)


@router.get("/slow")
async def get_slow(state: Annotated[str, Depends(slow)]) -> Item:
    return Item(id=1, name=state)


@router.get("/thread")
def get_thread() -> Item:
    return Item(id=2)


@router.post("/items", status_code=201, dependencies=[Depends(Requires()), Depends(counted)])
async def post_item(item: Item) -> Item:
    called.append("post_item")
    return item


@router.patch("/items/{item_id}")
async def patch_item(item_id: int, change: dict[str, str], after: int = 0) -> Item:
    return Item(id=item_id + after, **change)


@router.put("/items")
async def put_items(items: Annotated[list[Item], Body(max_length=2)]) -> list[Item]:
    return items


@router.post("/optional")
async def post_optional(item: Item | None = None) -> Item:
    return item or Item(id=0)


@router.post("/embedded")
async def post_embedded(item: Annotated[Item, Body(embed=True)]) -> Item:
    return item


@router.post("/two")
async def post_two(item: Item, other: Item) -> list[Item]:
    return [item, other]


async def body_of_dependency(item: Item) -> Item:
    return item


@router.post("/of-dependency")
async def post_of_dependency(item: Annotated[Item, Depends(body_of_dependency)]) -> Item:
    return item


DIRECT = {
    ("GET", "/items/{item_id}"), ("GET", "/items"), ("GET", "/dict/{name}"), ("GET", "/response"), ("GET", "/accepted"),
    ("GET", "/status/{status}"), ("POST", "/items"), ("PATCH", "/items/{item_id}"), ("PUT", "/items"),
    ("POST", "/optional"),
}  # fmt: skip


def api(route_class: type[APIRoute]) -> FastAPI:
    app = (DirectApi if route_class is DirectRoute else FastAPI)(exception_handlers=HANDLERS)
    for route in router.routes:
        assert isinstance(route, APIRoute)
        options = {name: getattr(route, name) for name in ("methods", "status_code", "dependencies", "response_model")}
        app.router.add_api_route(route.path, route.endpoint, **options, route_class_override=route_class)
    return app


async def ask(app: FastAPI, method: str, path: str, **options: Any) -> tuple[Any, ...]:
    called.clear()
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.request(method, path, **options)
    return answer.status_code, sorted(answer.headers.multi_items()), answer.content, list(called)


WHO = {"authorization": "ada"}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "/items/7", {"headers": WHO}),
        ("GET", "/items/7", {"headers": {**WHO, "cookie": "session=s1"}}),
        ("GET", "/items/7", {}),
        ("GET", "/items/0", {"headers": WHO}),
        ("GET", "/items/x", {}),
        ("GET", "/items/x", {"headers": WHO}),
        ("GET", "/items", {}),
        ("GET", "/items?limit=3&after=9&tag=a&tag=b", {}),
        ("GET", "/items?limit=0&after=x", {}),
        ("GET", "/items?limit=0", {}),
        ("GET", "/items?after=x", {}),
        ("GET", "/dict/12", {}),
        ("GET", "/dict/broken", {}),
        ("GET", "/response", {}),
        ("GET", "/accepted", {}),
        ("GET", "/status/203", {}),
        ("GET", "/status/204", {}),
        ("GET", "/status/304", {}),
        ("GET", "/class?after=3", {}),
        ("GET", "/not-in-path", {}),
        ("GET", "/opened", {}),
        ("GET", "/slow", {}),
        ("GET", "/thread", {}),
        ("POST", "/items", {"headers": WHO, "json": {"id": 1}}),
        ("POST", "/items", {"headers": WHO, "json": {"id": "x", "tags": [1]}}),
        ("POST", "/items", {"json": {"id": 1}}),
        ("POST", "/items", {"json": {"id": "x"}}),
        ("POST", "/items", {"headers": WHO, "json": None}),
        ("POST", "/items", {"headers": WHO}),
        ("POST", "/items", {"headers": {**WHO, "content-type": "application/json"}}),
        ("POST", "/items", {"headers": {**WHO, **JSON}, "content": b"null"}),
        ("POST", "/items", {"headers": {**WHO, **JSON}, "content": b'{"id": 1'}),
        ("POST", "/items", {"headers": {**WHO, **JSON}, "content": b'{"id": "\xff"}'}),
        ("POST", "/items", {"headers": {**WHO, **JSON}, "content": b'{"id": %s}' % (b"9" * 5000)}),
        ("POST", "/items", {"headers": {**WHO, **JSON}, "content": b'\xef\xbb\xbf{"id": 1}'}),
        ("POST", "/items", {"headers": {**WHO, **JSON}, "content": '{"id": 1}'.encode("utf-16")}),
        (
            "POST",
            "/items",
            {"headers": {**WHO, "content-type": "application/json; charset=x"}, "content": b'{"id": 1}'},
        ),
        ("POST", "/items", {"headers": {**WHO, "content-type": "Application/JSON"}, "content": b'{"id": 1}'}),
        ("POST", "/items", {"headers": {**WHO, "content-type": "application/a+json"}, "content": b'{"id": 1}'}),
        ("POST", "/items", {"headers": {**WHO, "content-type": "text/plain"}, "content": b'{"id": 1}'}),
        ("POST", "/items", {"headers": WHO, "content": b'{"id": 1}'}),
        ("PATCH", "/items/3?after=2", {"json": {"name": "new"}}),
        ("PATCH", "/items/x?after=y", {"json": {"name": 3}}),
        ("PUT", "/items", {"json": [{"id": 1}, {"id": "x"}]}),
        ("PUT", "/items", {"json": [{"id": 1}] * 3}),
        ("POST", "/optional", {}),
        ("POST", "/optional", {"json": {"id": 4}}),
        ("POST", "/optional", {"headers": JSON, "content": b"null"}),
        ("POST", "/embedded", {"json": {"item": {"id": 4}}}),
        ("POST", "/two", {"json": {"item": {"id": 4}, "other": {"id": 5}}}),
        ("POST", "/of-dependency", {"json": {"id": 6}}),
        ("POST", "/slow", {}),
    ],
)
async def test_direct_route__any_request__is_answered_as_by_fastapi(
    method: str, path: str, options: dict[str, Any]
) -> None:
    assert await ask(api(DirectRoute), method, path, **options) == await ask(api(APIRoute), method, path, **options)


async def test_direct_route__what_it_cannot_do__is_left_to_fastapi() -> None:
    routes = [route for route in api(DirectRoute).routes if isinstance(route, DirectRoute)]

    assert {(method, route.path) for route in routes if route.is_direct for method in route.methods or ()} == DIRECT


async def test_direct_route__dependency_overrides__are_obeyed() -> None:
    async def somebody() -> str:
        return "somebody"

    app = api(DirectRoute)
    app.dependency_overrides[caller] = somebody
    status, _, content, _ = await ask(app, "GET", "/items/7")

    assert (status, content) == (200, b'{"id":7,"name":"somebody -","tags":[]}')


async def test_direct_route__a_client_that_leaves_in_its_body__is_told_what_fastapi_tells() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def status(app: FastAPI) -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json"), (b"content-length", b"9")]
        scope = {"type": "http", "method": "PUT", "path": "/items", "headers": headers, "query_string": b""}
        await app(scope, receive, send)
        return int(sent[0]["status"])

    assert await status(api(DirectRoute)) == await status(api(APIRoute)) == 400


async def test_direct_route__the_products_reads_creates_and_changes__are_direct() -> None:
    routes = [route for route in create_api().routes if isinstance(route, DirectRoute) and route.is_direct]
    direct = {(method, route.path) for route in routes for method in route.methods or ()}

    assert {("GET", "/v1/users"), ("GET", "/v1/users/me"), ("GET", "/v1/users/{user_id}")} <= direct
    assert {("POST", "/v1/users"), ("PATCH", "/v1/users/{user_id}")} <= direct
