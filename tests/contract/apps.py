"""The product's own app, with an address at which each layer can be made to fail: served by a real uvicorn."""

import asyncio
from typing import Any

import django.core.exceptions
import django.http
import fastapi
from django.db import OperationalError
from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

import asgi
from fastapi_app.core.bridge import call_django
from project.mounts import MountBeforeRouter

DJANGO: dict[str, Exception] = {
    "400": django.core.exceptions.SuspiciousOperation("the secret is 42"),
    "403": django.core.exceptions.PermissionDenied("Not you."),
    "404": django.http.Http404("Not here."),
    "422": django.core.exceptions.ValidationError({"name": ["Too short.", "Too plain."], "__all__": "Does not fit."}),
    "500": LookupError("the secret is 42"),
    "503": OperationalError("the secret is 42"),
}


class PlainRefusal:
    """A root middleware that refuses as middleware does: with a plain line."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        layer, _, status = scope.get("path", "").rpartition("/")
        if layer == "/api/test/middleware":
            await PlainTextResponse("Refused.", int(status))(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def fail_in_django(status: str) -> None:
    raise DJANGO[status]


router = APIRouter(prefix="/test")


@router.get("/starlette/{status}")
async def starlette_refuses(status: int) -> None:
    raise HTTPException(status)


@router.get("/fastapi/{status}")
async def fastapi_refuses(status: int) -> None:
    raise fastapi.HTTPException(status)


@router.get("/django/{status}")
async def django_refuses(status: str) -> None:
    await call_django(fail_in_django, status)


@router.get("/sleep")
async def sleep() -> None:
    await asyncio.sleep(60)


asgi.api.include_router(router)
stack: list[Any] = [middleware.cls for middleware in asgi.app.user_middleware]
asgi.app.user_middleware.insert(stack.index(MountBeforeRouter), Middleware(PlainRefusal))
app = asgi.app
