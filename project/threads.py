"""Each request's own Django thread: started when it is needed, its connections given back at the end."""

import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial

from asgiref.sync import ThreadSensitiveContext
from django.conf import settings
from django.db import connections
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from project.asgi_scope import route_path
from project.config import Config
from project.lanes import DjangoBusy, Lane
from project.tuning import make_way

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5
"""What a 503 asks of a browser: a few slow pages' time."""


class RequestThread(Executor):
    """One thread for one request's thread-sensitive calls, started by the first of them, in a lane if it has one."""

    def __init__(self) -> None:
        self.lane: Lane | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._has_begun = False
        self._is_over = False

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="django", initializer=make_way)
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
    """Give each request a Django thread of its own, and its connections back at the end.

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
        path = route_path(scope)
        scope["django_thread"].lane = self.sign_in if path in self.sign_in_paths else self.lane
        try:
            await self.app(scope, receive, send)
        except DjangoBusy:
            logger.warning("%s: too many requests wait for Django", path)
            response = PlainTextResponse("Too busy just now.", 503, {"Retry-After": str(RETRY_AFTER_S)})
            await response(scope, receive, send)
