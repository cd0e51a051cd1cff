"""Requests that take too long, and requests that nobody waits for: both are cancelled.

Most requests are answered at once, so what they pay is one entry in a table. A tick looks through the table ten times
a second and deals with those that are still in it.
"""

import asyncio
import logging
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import ClassVar

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)


class LiveRequest:
    """A request that is being served: until its response begins, somebody must see to it that it does."""

    # What a request begins with is the class's: most never set it.
    is_answered = False
    client_has_gone = False
    is_watched = False
    is_cancelled = False
    _is_receiving = False
    _watcher: asyncio.Task[None] | None = None
    _received: asyncio.Queue[Message | Exception]

    def __init__(self, receive: Receive, send: Send, ends_at: float) -> None:
        self._receive = receive
        self._send = send
        self._ends_at = ends_at
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task else 0

    def send(self, message: Message) -> Awaitable[None]:
        """Send it; with the response's beginning the deadline is met: how long it takes is up to the client's line."""
        self.is_answered = True
        return self._send(message)

    async def receive(self) -> Message:
        """Receive, through the watcher once there is one."""
        if self._watcher is not None:
            return await self._receive_from_watcher(self._watcher)
        self._is_receiving = True
        try:
            return await self._receive()
        finally:
            self._is_receiving = False

    async def _receive_from_watcher(self, watcher: asyncio.Task[None]) -> Message:
        if watcher.done() and self._received.empty():
            return {"type": "http.disconnect"}
        message = await self._received.get()
        if isinstance(message, Exception):
            raise message
        return message

    def tick(self, now: float) -> None:
        """Cancel what is late, and begin to watch for the client's leaving where that is wanted."""
        if self.is_answered:
            return
        if now >= self._ends_at:
            self._cancel()
        elif self.is_watched and self._watcher is None and not self._is_receiving:
            self._received = asyncio.Queue()
            self._watcher = asyncio.create_task(self._receive_until_gone())

    async def _receive_until_gone(self) -> None:
        try:
            while (message := await self._receive())["type"] != "http.disconnect":
                self._received.put_nowait(message)
        except Exception as error:  # The body is too large: that is for the app to raise.
            self._received.put_nowait(error)
            return
        self._received.put_nowait(message)
        if not self.is_answered:
            self.client_has_gone = True
            self._cancel()

    def _cancel(self) -> None:
        if not self.is_cancelled and self._task is not None:
            self.is_cancelled = True
            self._task.cancel()

    def end(self) -> bool:
        """Stop watching; whether the request was cancelled here, and by nobody else besides (as asyncio.timeout)."""
        if self._watcher is not None:
            self._watcher.cancel()
        task, self._task = self._task, None  # The task has its context, which may have this: a cycle.
        return self.is_cancelled and task is not None and task.uncancel() <= self._cancelling


live_request: ContextVar[LiveRequest] = ContextVar("live_request")
"""The request that is being served here."""


class Deadline:
    """Cancel a request that has not begun its response after ``seconds``, a tick more or less, and answer 504."""

    TICK_S: ClassVar = 0.1

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self.seconds = seconds
        self._live: dict[LiveRequest, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop in which a tick is due."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        request = LiveRequest(receive, send, loop.time() + self.seconds)
        self._live[request] = None
        if self._loop is not loop:
            self._expect_tick(loop)
        live_request.set(request)
        try:
            await self.app(scope, receive, request.send)
        except asyncio.CancelledError:
            if not request.end():
                raise
        finally:
            del self._live[request]
            request.end()
        if request.is_cancelled and not request.is_answered:
            await self._answer(request, scope, receive, send)

    async def _answer(self, request: LiveRequest, scope: Scope, receive: Receive, send: Send) -> None:
        if request.client_has_gone:
            logger.info("%s %s: the client has gone, cancelled", scope["method"], scope["path"])
            return
        logger.warning("%s %s: no answer within %g s, cancelled", scope["method"], scope["path"], self.seconds)
        await PlainTextResponse(f"No answer within {self.seconds:g} s.", 504)(scope, receive, send)

    def _expect_tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        loop.call_later(self.TICK_S, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        for request in self._live:
            request.tick(loop.time())
        self._loop = None
        if self._live:
            self._expect_tick(loop)


class CancelOnDisconnect:
    """Cancel a request whose client has gone before its response began: its transaction rolls back.

    uvicorn lets such a request run to its end; Django watches for itself, so this stands before the API only, and
    behind ``Deadline``, which does the watching.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            request = live_request.get()
            request.is_watched = True
            receive = request.receive
        return self.app(scope, receive, send)
