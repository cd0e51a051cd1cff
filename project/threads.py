"""Each request's own Django thread: started when it is needed, its connections given back when they are not."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from asgiref.sync import ThreadSensitiveContext, iscoroutinefunction
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.db import connections
from django.http import FileResponse, HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from project.asgi_scope import route_path
from project.config import Config
from project.lanes import DjangoBusy, Lane
from project.tuning import make_way

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5
"""What a 503 asks of a browser: a few slow pages' time."""
STREAM_READ_S = 30.0
"""How long a stream that keeps a connection, and so a place, waits for its client to take a piece."""


@dataclass
class _Visit:
    """A thread in Django, from its first call until its connections are given back."""

    thread: ThreadPoolExecutor
    has_place: bool = False
    """Whether it has one in the request's lane."""
    may_be_connected: bool = False


class RequestThread(Executor):
    """One thread for one request's thread-sensitive calls, started by the first of them, in a lane if it has one.

    What a request calls after it has let its thread go gets another one, and a place again.
    """

    def __init__(self) -> None:
        self.lane: Lane | None = None
        self._visit: _Visit | None = None
        self._has_begun = False
        self._is_over = False

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._is_over:
            raise RuntimeError("the request is over")
        if self._visit is None:
            self._visit = _Visit(ThreadPoolExecutor(max_workers=1, thread_name_prefix="django", initializer=make_way))
        self._visit.may_be_connected = True
        return self._visit.thread.submit(self._run, self._visit, partial(fn, *args, **kwargs))

    def _run[T](self, visit: _Visit, call: Callable[[], T]) -> T:
        try:
            return call() if self.lane is None else self._run_in(self.lane, visit, call)
        finally:
            visit.may_be_connected = any(one.connection is not None for one in connections.all(initialized_only=True))

    def _run_in[T](self, lane: Lane, visit: _Visit, call: Callable[[], T]) -> T:
        self._take_slot(lane, visit)
        try:
            if self._is_over:
                raise DjangoBusy  # Its time ran out while it waited, and nobody wants to know any more.
            with lane.stepping_aside():
                return call()
        finally:
            lane.step_aside()

    def _take_slot(self, lane: Lane, visit: _Visit) -> None:
        if visit.has_place:
            lane.resume()
        elif self._has_begun:
            lane.come_back()
        else:
            lane.begin()
        visit.has_place = self._has_begun = True

    @property
    def keeps_connection(self) -> bool:
        """Whether its last call has left a connection open, or one is under way that may."""
        return self._visit is not None and self._visit.may_be_connected

    def let_go(self) -> None:
        """Give the connections and the place back once the last call has ended, without waiting for that."""
        if self._visit is not None:
            self._visit.thread.submit(self._end, self._visit)
            self._visit.thread.shutdown(wait=False)
            self._visit = None

    def _end(self, visit: _Visit) -> None:
        try:
            connections.close_all()
        finally:
            if self.lane is not None and visit.has_place:
                self.lane.end()

    def finish(self) -> None:
        """Let go for good."""
        self._is_over = True
        self.let_go()


class DjangoThread:
    """Give each request a Django thread of its own, and let that go when it is over, or sends and needs none for it.

    Without it all calls into Django from outside Django share one thread and one connection per process: they wait
    for each other, swallow each other's transactions, and fail for ever once that connection has died. A cancelled
    Django request sends no signal that would close its connections. The API's requests have none: each of its calls
    into Django brings a thread along (``fastapi_app/core/bridge.py``).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        scope["django_thread"] = thread = RequestThread()

        async def send_in_time(message: Message) -> None:
            if not thread.keeps_connection:
                thread.let_go()
                await send(message)  # Nobody waits for what this request holds, so the client may take its time.
                return
            try:
                async with asyncio.timeout(STREAM_READ_S):
                    await send(message)
            except TimeoutError:
                logger.warning("%s: a stream has waited %g s for its client, ended", scope["path"], STREAM_READ_S)
                raise RequestAborted from None  # For Django, the client has gone.

        try:
            async with ThreadSensitiveContext(executor=thread):
                await self.app(scope, receive, send_in_time)
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
        path = route_path(scope)
        scope["django_thread"].lane = self.sign_in if path in self.sign_in_paths else self.lane
        try:
            await self.app(scope, receive, send)
        except DjangoBusy:
            logger.warning("%s: too many requests wait for Django", path)
            response = PlainTextResponse(
                "The server is busy. Try again in a few seconds.", 503, {"Retry-After": str(RETRY_AFTER_S)}
            )
            await response(scope, receive, send)


@sync_and_async_middleware
def give_connections_back(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Django's outermost middleware: before a page or a file is sent, the connections go back, and with them the place.

    Another stream keeps them, because it may be in the midst of a query.
    """

    async def respond_async(request: HttpRequest) -> HttpResponseBase:
        return _let_go(request, await get_response(request))

    def respond(request: HttpRequest) -> HttpResponseBase:
        return _let_go(request, get_response(request))

    return respond_async if iscoroutinefunction(get_response) else respond


def _let_go(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    thread = getattr(request, "scope", {}).get("django_thread")  # Tests' requests come without one.
    if thread is not None and (not response.streaming or isinstance(response, FileResponse)):
        thread.let_go()
    return response
