"""Requests whose body the server lost, because it took an offer of another protocol for a switch to it."""

import asyncio
from collections.abc import Awaitable
from http import HTTPStatus

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from project.asgi_scope import header


class RefuseLostBody:
    """Refuses a request whose body is not there although it was announced, and closes the connection.

    uvicorn's httptools protocol ends a request that offers an upgrade with its head, and runs its body as the next
    request. ``project.protocol.BoundedHttp`` does not; this is for a server that was started without it. h11 loses no
    body, and is served. What follows CONNECT is not HTTP (RFC 9110, section 9.3.6), but uvicorn would run it too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            if scope["method"] == "CONNECT":
                return _refuse(HTTPStatus.NOT_IMPLEMENTED)(scope, receive, send)
            for name, _value in scope["headers"]:
                if name == b"upgrade":
                    return self._serve_with_body(scope, receive, send)
        return self.app(scope, receive, send)

    async def _serve_with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        first = await _what_has_come(receive) if _has_body(scope) else None
        if first is not None and first["type"] == "http.request" and not first["body"] and not first["more_body"]:
            await _refuse(HTTPStatus.BAD_REQUEST)(scope, receive, send)
            return

        async def receive_first() -> Message:
            nonlocal first
            message, first = first, None
            return message or await receive()

        await self.app(scope, receive_first, send)


def _has_body(scope: Scope) -> bool:
    is_empty = (header(scope, b"content-length") or b"0").strip(b"0") == b""
    return not is_empty or header(scope, b"transfer-encoding") is not None


async def _what_has_come(receive: Receive) -> Message | None:
    """Returns the first message, if there is one already: the end of a lost body is."""
    try:
        async with asyncio.timeout(0):
            return await receive()
    except TimeoutError:
        return None


def _refuse(status: HTTPStatus) -> PlainTextResponse:
    return PlainTextResponse(status.phrase, status, {"connection": "close"})
