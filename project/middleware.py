"""The root's middleware: plain ASGI, so that streaming, disconnects and context variables work through it."""

import asyncio
import logging
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from typing import cast

from asgi_correlation_id import correlation_id
from asgiref.sync import ThreadSensitiveContext
from django.conf import settings
from django.db import connections
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from project.config import Config, StartupError
from project.lanes import DjangoBusy, Lane

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5
"""What a 503 asks of a browser: a few slow pages' time."""

is_sane_request_id = re.compile(rb"[A-Za-z0-9._-]{8,64}").fullmatch
"""Whether a caller's ``X-Request-ID`` may go into logs and responses as it is."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first value of the header with this lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            return cast("bytes", value)
    return None


class RequestId:
    """Take the caller's ``X-Request-ID`` when it is sane, else make one; put it into every response and log line."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        given = header(scope, b"x-request-id")
        request_id = given if given is not None and is_sane_request_id(given) else token_hex(16).encode()
        correlation_id.set(request_id.decode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", request_id)]}
            await send(message)

        await self.app(scope, receive, send_with_id)


class TrustedHosts:
    """Starlette's check of the ``Host`` header, made once for each spelling that it lets through."""

    MOST_KNOWN = 100
    """Spellings: a wildcard, or a port, lets through more than a process should remember."""

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str]) -> None:
        self.app = app
        self._check = TrustedHostMiddleware(self._admit, allowed_hosts, www_redirect=False)
        self._known: set[bytes | None] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_known = scope["type"] == "lifespan" or header(scope, b"host") in self._known
        await (self.app if is_known else self._check)(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self._known) < self.MOST_KNOWN:
            self._known.add(header(scope, b"host"))
        await self.app(scope, receive, send)


class BodyLimit:
    """Starlette's limit on the size of a body, for the requests that have one."""

    def __init__(self, app: ASGIApp, max_body_size: int) -> None:
        self.app = app
        self._limited = RequestBodyLimitMiddleware(app, max_body_size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._limited if scope["type"] == "http" and may_have_body(scope) else self.app)(scope, receive, send)


def may_have_body(scope: Scope) -> bool:
    """Whether a body may follow; HTTP/1 announces one in a header (RFC 9112, section 6), its successors need not."""
    return scope["http_version"] not in {"1.0", "1.1"} or any(
        key in {b"content-length", b"transfer-encoding"} for key, _value in scope["headers"]
    )


class RequireLifespan:
    """Mind the lifespan: an error in it is told in one line where it can be, and without it nothing is served.

    Raises:
        RuntimeError: a request carries no lifespan state (``--lifespan off``, a bare test transport); the message
            names the cure.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, partial(_send_one_line, send))
            return
        if "resources" not in scope.get("state", {}):
            raise RuntimeError(
                "the lifespan did not run, so there is no database: serve with 'uvicorn asgi:app --lifespan on', "
                "and in tests enter the lifespan (asgi_lifespan.LifespanManager) and call its app"
            )
        await self.app(scope, receive, send)


async def _send_one_line(send: Send, message: Message) -> None:
    # Starlette sends the failure while it handles the exception, which is how this line can know it.
    error = sys.exception()
    if message["type"] == "lifespan.startup.failed" and isinstance(error, StartupError):
        message = {**message, "message": f"tandem: {error}"}
    await send(message)


class RequestThread(Executor):
    """One thread for one request's thread-sensitive calls, started by the first of them, in a lane if it has one."""

    def __init__(self) -> None:
        self.lane: Lane | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._has_begun = False
        self._is_over = False

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="django")
        if self.lane is None:
            return self._pool.submit(fn, *args, **kwargs)
        return self._pool.submit(self._run_in, self.lane, partial(fn, *args, **kwargs))

    def _run_in[T](self, lane: Lane, call: Callable[[], T]) -> T:
        if self._has_begun:
            lane.resume()
        else:
            lane.begin()
            self._has_begun = True
        try:
            if self._is_over:
                raise DjangoBusy  # Its time ran out while it waited, and nobody wants to know any more.
            with lane.stepping_aside():
                return call()
        finally:
            lane.step_aside()

    def finish(self) -> None:
        """Give the thread's connections back once its last call has ended, without waiting for that."""
        self._is_over = True
        if self._pool is not None:
            self._pool.submit(self._end)
            self._pool.shutdown(wait=False)

    def _end(self) -> None:
        connections.close_all()
        if self.lane is not None and self._has_begun:
            self.lane.end()


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
        lane = partial(Lane, slots=config.django_concurrency, queue=config.django_queue, wait_s=config.django_wait_s)
        self.lane, self.sign_in = lane(places=config.django_pool_size - 1), lane(places=1)
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


@dataclass(slots=True)
class Patience:
    """How long a request may still take to begin its response, found in its scope as ``patience``."""

    timeout: asyncio.Timeout
    client_has_gone: bool = False

    @property
    def is_answered(self) -> bool:
        return self.timeout.when() is None


class Deadline:
    """Cancel a request that has not begun its response after ``seconds``, and answer 504."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_in_time(message: Message) -> None:
            if not (patience.is_answered or patience.timeout.expired()):
                patience.timeout.reschedule(None)  # From here on it is up to the client's line how long it takes.
            await send(message)

        try:
            async with asyncio.timeout(self.seconds) as timeout:
                scope["patience"] = patience = Patience(timeout)
                await self.app(scope, receive, send_in_time)
        except TimeoutError:
            if not timeout.expired():
                raise
            if patience.client_has_gone:
                logger.info("%s %s: the client has gone, cancelled", scope["method"], scope["path"])
                return
            logger.warning("%s %s: no answer within %g s, cancelled", scope["method"], scope["path"], self.seconds)
            await PlainTextResponse(f"No answer within {self.seconds:g} s.", 504)(scope, receive, send)


class CancelOnDisconnect:
    """End the patience with a request whose client has gone before its response began: its transaction rolls back.

    uvicorn lets such a request run to its end; Django watches for itself, so this stands before the API only.
    """

    WATCH_AFTER_S = 0.1
    """Most requests are answered sooner, and need not pay for a task that waits for their client to leave."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = _WatchedClient(scope["patience"], receive)
        timer = asyncio.get_running_loop().call_later(self.WATCH_AFTER_S, client.watch)
        try:
            await self.app(scope, client.receive, send)
        finally:
            timer.cancel()
            client.stop_watching()


class _WatchedClient:
    """What a client sends. Once it is watched, a task receives for the app, so as to hear when the client goes."""

    def __init__(self, patience: Patience, receive: Receive) -> None:
        self._patience = patience
        self._receive = receive
        self._is_receiving = False
        self._is_to_be_watched = False
        self._watcher: asyncio.Task[None] | None = None
        self._received: asyncio.Queue[Message | Exception] = asyncio.Queue()

    async def receive(self) -> Message:
        if self._watcher is not None:
            return await self._receive_from_watcher(self._watcher)
        self._is_receiving = True
        try:
            message = await self._receive()
        finally:
            self._is_receiving = False
        if self._is_to_be_watched:
            self.watch()
        return message

    async def _receive_from_watcher(self, watcher: asyncio.Task[None]) -> Message:
        if watcher.done() and self._received.empty():
            return {"type": "http.disconnect"}
        message = await self._received.get()
        if isinstance(message, Exception):
            raise message
        return message

    def watch(self) -> None:
        """Let a task receive from now on, or as soon as the app is not receiving itself."""
        self._is_to_be_watched = True
        if not self._is_receiving:
            self._watcher = asyncio.create_task(self._receive_until_gone())

    async def _receive_until_gone(self) -> None:
        try:
            while (message := await self._receive())["type"] != "http.disconnect":
                self._received.put_nowait(message)
        except Exception as error:  # The body is too large: that is for the app to raise.
            self._received.put_nowait(error)
            return
        self._received.put_nowait(message)
        if not self._patience.is_answered:
            self._patience.client_has_gone = True
            self._patience.timeout.reschedule(0)  # The loop's clock is past that.

    def stop_watching(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
