"""Guards: whoever may not, or too often, is refused before the body is read, on whichever way a route is served."""

from collections.abc import Callable
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel
from starlette.requests import Request as StarletteRequest

from fastapi_app.core.dispatch import DirectApi
from fastapi_app.core.errors import HANDLERS, Forbidden, TooManyRequests, Unauthenticated
from fastapi_app.core.requests import Guard
from fastapi_app.core.routing import ContractRoute

pytestmark = [pytest.mark.asyncio, pytest.mark.attack]

happened: list[str] = []


class Item(BaseModel):
    id: int


class Demands(Guard):
    """Lets in who says so."""

    async def __call__(self, request: StarletteRequest) -> str:
        happened.append("guard")
        match request.headers.get("authorization"):
            case None:
                raise Unauthenticated("who?")
            case "little":
                raise Forbidden("no")
            case "often":
                raise TooManyRequests("principal", 1)
        return "ada"


demands = Demands()
Who = Annotated[str, Depends(demands)]


async def upload(request: Request) -> bytes:
    happened.append("upload")
    return await request.body()


async def number(number: int) -> int:
    return number


def in_a_thread() -> str:
    return "thread"


async def post_direct(item: Item, who: Who) -> Item:
    return item


async def post_plain(item: Item, who: Who, _thread: Annotated[str, Depends(in_a_thread)]) -> Item:
    return item


async def post_upload(_upload: Annotated[bytes, Depends(upload)], who: Who) -> str:
    return who


async def post_with_parameter(item: Item, number: Annotated[int, Depends(number)], who: Who) -> Item:
    return item


async def post_of_a_router(item: Item) -> Item:
    return item


def api() -> FastAPI:
    app = DirectApi(exception_handlers=HANDLERS)
    endpoints: dict[str, Callable[..., Any]] = {
        "direct": post_direct,
        "plain": post_plain,
        "upload": post_upload,
        "parameter": post_with_parameter,
    }
    for name, endpoint in endpoints.items():
        app.router.add_api_route(f"/{name}", endpoint, methods=["POST"], route_class_override=ContractRoute)
    app.router.add_api_route(
        "/listed",
        post_of_a_router,
        methods=["POST"],
        dependencies=[Depends(demands)],
        route_class_override=ContractRoute,
    )
    return app


PATHS = ("/direct", "/plain", "/upload", "/parameter", "/parameter?number=x", "/listed")


async def post(app: FastAPI, path: str, authorization: str | None, content: bytes) -> tuple[httpx2.Response, bool]:
    """The answer, and whether the body was asked for."""
    is_read = False

    async def body() -> Any:
        nonlocal is_read
        is_read = True
        yield content

    headers = {"content-type": "application/json", "content-length": str(len(content))}
    happened.clear()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        answer = await client.post(
            path, content=body(), headers=headers | ({"authorization": authorization} if authorization else {})
        )
    return answer, is_read


@pytest.mark.parametrize(
    "content", [b'{"id": 1}', b'{"id": "x"}', b"{", b"[" * 100_000], ids=["good", "x", "{", "deep"]
)
@pytest.mark.parametrize(("authorization", "status"), [(None, 401), ("little", 403), ("often", 429)])
@pytest.mark.parametrize("path", PATHS)
async def test_guard__refuses__nothing_else_has_happened(
    path: str, authorization: str | None, status: int, content: bytes
) -> None:
    answer, is_read = await post(api(), path, authorization, content)

    assert (answer.status_code, is_read, happened) == (status, False, ["guard"])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/direct", 200),
        ("/plain", 200),
        ("/upload", 200),
        ("/parameter?number=1", 200),
        ("/parameter", 422),
        ("/listed", 200),
    ],
)
async def test_guard__lets_in__the_route_is_served(path: str, status: int) -> None:
    answer, is_read = await post(api(), path, "ada", b'{"id": 1}')

    assert (answer.status_code, is_read) == (status, True)


async def test_guard__is_overridden__is_not_asked() -> None:
    app = api()
    app.dependency_overrides[demands] = lambda: "somebody"

    for path in ("/direct", "/plain", "/upload", "/listed"):
        answer, _is_read = await post(app, path, None, b'{"id": 1}')
        assert (answer.status_code, "guard" in happened) == (200, False), path
