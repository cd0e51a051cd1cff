"""Unexpected errors: each is answered with 500 and logged once, and the connection stays open for the next request."""

import logging
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from project.middleware import LifespanRequiredError

logger = logging.getLogger(__name__)


class RootApp(Starlette):
    """Starlette with ``ServerErrors`` in the place of its own outermost layer, and with the same handler."""

    def build_middleware_stack(self) -> ASGIApp:
        outermost = super().build_middleware_stack()
        if not isinstance(outermost, ServerErrorMiddleware) or outermost.handler is None:
            raise TypeError("the root app needs a handler of Exception, and Starlette's layer that calls it")
        return ServerErrors(outermost.app, outermost.handler)


class ServerErrors:
    """Answers an unexpected error by ``handler``, if no layer within has answered it, and logs it with its traceback.

    Starlette's layer raises the error again once it is answered, and a server then closes the connection, although the
    client may have sent its next request. Here an error goes on to the server in two cases only:

    - The response has begun and is not whole: closing the connection is how HTTP/1.1 says so (RFC 9112, section 8).
    - The lifespan did not run, which whoever starts the process, or writes a test, must see.
    """

    def __init__(self, app: ASGIApp, handler: Any) -> None:
        self.app = app
        self.handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_begun = is_whole = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun, is_whole
            has_begun = True
            await send(message)  # A server raises here when a response is not what its head has declared.
            is_whole = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self.app(scope, receive, send_and_note)
        except Exception as error:
            if not has_begun:
                response = await self.handler(Request(scope), error)
                await response(scope, receive, send_and_note)
            if not is_whole or isinstance(error, LifespanRequiredError):
                raise
            logger.exception("%s %r: an unexpected error", scope["method"], scope["path"])
