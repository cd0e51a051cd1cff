"""The root's middleware: plain ASGI, so that streaming, disconnects and context variables work through it."""

import asyncio
import logging
import re
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from asgiref.sync import ThreadSensitiveContext
from django.conf import settings
from django.db import connections
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from project.config import Config, StartupError
from project.lanes import DjangoBusy, Lane

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5
"""What a 503 asks of a browser: a few slow pages' time."""

is_sane_request_id = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII).fullmatch
"""Whether a caller's ``X-Request-ID`` may go into logs and responses as it is."""


class OneLineStartupErrors:
    """Tell the server of a ``StartupError`` in one line; anything else keeps the traceback that Starlette sends."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_one_line(message: Message) -> None:
            # Starlette sends the failure while it handles the exception, which is how this line can know it.
            error = sys.exception()
            if message["type"] == "lifespan.startup.failed" and isinstance(error, StartupError):
                message = {**message, "message": f"tandem: {error}"}
            await send(message)

        await self.app(scope, receive, send_one_line if scope["type"] == "lifespan" else send)


class RequireLifespan:
    """Refuse to serve when no lifespan ran (``--lifespan off``, a bare test transport).

    Raises:
        RuntimeError: the request carries no lifespan state; the message names the cure.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and "resources" not in scope.get("state", {}):
            raise RuntimeError(
                "the lifespan did not run, so there is no database: serve with 'uvicorn asgi:app --lifespan on', "
                "and in tests enter the lifespan (asgi_lifespan.LifespanManager) and call its app"
            )
        await self.app(scope, receive, send)


class RequestThread(Executor):
    """One thread for one request's thread-sensitive calls, started by the first of them, in a lane if it has one."""

    def __init__(self) -> None:
        self.lane: Lane | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._in_lane: ExitStack | None = None

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="django")
        if self.lane is None:
            return self._pool.submit(fn, *args, **kwargs)
        return self._pool.submit(self._run_in, self.lane, partial(fn, *args, **kwargs))

    def _run_in[T](self, lane: Lane, call: Callable[[], T]) -> T:
        if self._in_lane is None:
            lane.begin()
            self._in_lane = ExitStack()
            self._in_lane.enter_context(lane.stepping_aside())
        else:
            lane.resume()
        try:
            return call()
        finally:
            lane.leave()

    def finish(self) -> None:
        """Give the thread's connections back once its last call has ended, without waiting for that."""
        if self._pool is not None:
            self._pool.submit(connections.close_all)
            self._pool.shutdown(wait=False)


class DjangoThread:
    """Give each request a Django thread of its own, and its connections back at the end, on every mount.

    Without it all calls into Django from outside Django share one thread and one connection per process: they wait
    for each other, swallow each other's transactions, and fail for ever once that connection has died. It stands
    outside every time-out, because a cancelled Django request sends no signal that would close its connections.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        scope["django_thread"] = thread = RequestThread()
        try:
            async with ThreadSensitiveContext(executor=thread):
                await self.app(scope, receive, send)
        finally:
            thread.finish()  # No await: a cancelled request cleans up too.


class DjangoLanes:
    """Before Django: puts each request into a lane, and answers 503 when that is too full (see project.lanes).

    ``settings.SIGN_IN_PATHS`` have a lane of their own, so that a slow report never delays a log-in.
    """

    def __init__(self, app: ASGIApp, config: Config) -> None:
        self.app = app
        self.lane, self.sign_in = (
            Lane(slots=config.django_concurrency, queue=config.django_queue, wait_s=config.django_wait_s)
            for _ in range(2)
        )
        self.sign_in_paths = frozenset(settings.SIGN_IN_PATHS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope["root_path"])
        scope["django_thread"].lane = self.sign_in if path in self.sign_in_paths else self.lane
        try:
            await self.app(scope, receive, send)
        except DjangoBusy:
            logger.warning("%s: too many requests wait for Django", path)
            response = PlainTextResponse("Too busy just now.", 503, {"Retry-After": str(RETRY_AFTER_S)})
            await response(scope, receive, send)


class Deadline:
    """Cancel a request that has not begun its response after ``seconds``, and answer 504."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        has_answered = False

        async def send_in_time(message: Message) -> None:
            nonlocal has_answered
            has_answered = True
            if not deadline.expired():
                deadline.reschedule(None)  # The answer has begun: how long it takes is up to the client's line.
            await send(message)

        try:
            async with asyncio.timeout(self.seconds) as deadline:
                await self.app(scope, receive, send_in_time)
        except TimeoutError:
            if has_answered or not deadline.expired():
                raise
            logger.warning("%s %s: no answer within %g s, cancelled", scope["method"], scope["path"], self.seconds)
            response = PlainTextResponse(f"No answer within {self.seconds:g} s.", status_code=504)
            await response(scope, receive, send)


class CancelOnDisconnect:
    """Cancel a request whose client has gone before its response began, so that its transaction is rolled back.

    uvicorn lets such a request run to its end; Django watches for itself, so this stands before the API only.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = _WatchedClient(receive, send, first=await receive())
        try:
            async with asyncio.timeout(None) as limit:
                watcher = asyncio.create_task(client.watch(limit))
                try:
                    await self.app(scope, client.receive, client.send)
                finally:
                    watcher.cancel()
        except TimeoutError:
            if not limit.expired():
                raise
            logger.info("%s %s: the client has gone, cancelled", scope["method"], scope["path"])


class _WatchedClient:
    """A request's two channels: once its body is read, all that is left to receive is the client's leaving."""

    def __init__(self, receive: Receive, send: Send, first: Message) -> None:
        self._receive = receive
        self._send = send
        self._first: Message | None = first
        self._body_is_read = asyncio.Event()
        self._has_gone = asyncio.Event()
        self._is_answered = False
        self._note_the_end(first)

    async def receive(self) -> Message:
        if self._first is not None:
            message, self._first = self._first, None
        elif self._body_is_read.is_set():
            await self._has_gone.wait()
            message = {"type": "http.disconnect"}
        else:
            message = await self._receive()
            self._note_the_end(message)
        return message

    async def send(self, message: Message) -> None:
        self._is_answered = True
        await self._send(message)

    async def watch(self, limit: asyncio.Timeout) -> None:
        """Wait for the client to go; end ``limit`` if it still waited for an answer."""
        await self._body_is_read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._has_gone.set()
        if not self._is_answered:
            limit.reschedule(0)  # The loop's clock is past that.

    def _note_the_end(self, message: Message) -> None:
        if not message.get("more_body", False):
            self._body_is_read.set()
