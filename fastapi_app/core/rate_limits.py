"""Rate limits: so many requests of one caller, and from one address, in each window of time.

The window is fixed by the clock (every minute anew), because counting is then one addition, and its end is known to
all: docs/decisions/0012-rate-limits.md.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from limits import parse
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_app.core.background import running
from fastapi_app.core.errors import TooManyRequests, Unavailable
from fastapi_app.core.problems import problem_response
from fastapi_app.core.requests import resources_of
from project.config import Config
from project.networks import network

if TYPE_CHECKING:
    from fastapi_app.core.redis import SharedRedis

logger = logging.getLogger(__name__)

ADDRESS, PRINCIPAL = "address", "principal"
LONGEST_NAME = 128
"""Characters of a caller's name that is counted as it is; of a longer one, its hash is."""


@dataclass(frozen=True)
class Limit:
    """So many requests of one of its kind in each window."""

    name: str
    amount: int
    window_s: int

    @property
    def policy(self) -> str:
        """An item of ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers)."""
        return f'"{self.name}";q={self.amount};w={self.window_s}'

    @cached_property
    def item(self) -> bytes:
        """An item of ``RateLimit`` (same draft), but for its numbers: how many are left, and for how many seconds."""
        return b'"%s";r=%%d;t=%%d' % self.name.encode()


def limits_of(config: Config) -> dict[str, Limit]:
    """The limits that are configured, by name."""
    written = {ADDRESS: config.rate_limit_address, PRINCIPAL: config.rate_limit_principal}
    parsed = {name: parse(text) for name, text in written.items() if text != "0"}
    return {name: Limit(name, limit.amount, limit.get_expiry()) for name, limit in parsed.items()}


class MemoryCounter:
    """Counts in this process. A window's counts go when it ends, so nothing has to be looked for and deleted."""

    MOST_COUNTED = 100_000
    """Of a window; who comes after them is let through."""

    def __init__(self) -> None:
        self._windows: dict[str, tuple[int, dict[str, int]]] = {}

    def count(self, limit: Limit, whose: str, window: int) -> int:
        """How many there are of one in this window, the present one, this request included."""
        known = self._windows.get(limit.name)
        if known is None or known[0] != window:
            known = self._windows[limit.name] = (window, {})
        counts = known[1]
        number = counts.get(whose, 0) + 1
        if number > 1 or len(counts) < self.MOST_COUNTED:
            counts[whose] = number
        return number


type _Key = tuple[Limit, str, int]
"""A limit, whose requests, and in which window."""


class SharedCounter(MemoryCounter):
    """Counts in this process, and tells Redis every ``SHARE_EVERY_S``, which tells what the other processes counted.

    A request never waits for Redis, and while it is dead each process still has its own counts. The price: what the
    others let through since the last time is not known yet.
    """

    SHARE_EVERY_S = 0.1

    def __init__(self, redis: "SharedRedis") -> None:
        from limits.aio.storage import RedisStorage  # noqa: PLC0415  Who has no Redis does not wait for its import.

        super().__init__()
        self._redis = redis
        pool: Any = redis.client.connection_pool  # It hands its options on to the client, whatever they are.
        self._storage = RedisStorage(
            "async+redis://", implementation="redispy", key_prefix="tandem:limits", connection_pool=pool
        )
        self._untold: dict[_Key, int] = {}
        self._told: dict[_Key, int] = {}
        self._of_others: dict[_Key, int] = {}

    def count(self, limit: Limit, whose: str, window: int) -> int:
        key = (limit, whose, window)
        if key in self._untold or len(self._untold) < self.MOST_COUNTED:
            self._untold[key] = self._untold.get(key, 0) + 1
        return super().count(limit, whose, window) + self._of_others.get(key, 0)

    async def share_for_ever(self) -> None:
        """Tell and be told, again and again."""
        while True:
            await asyncio.sleep(self.SHARE_EVERY_S)
            try:
                await self.share()
            except Exception:
                logger.exception("cannot share the counts of rate limits")

    async def share(self) -> None:
        """Tell what was counted since the last time, and be told of the others."""
        now, untold = int(time.time()), self._untold
        self._untold = {}
        for key, number in untold.items():
            limit, whose, window = key
            if window == now // limit.window_s and not await self._tell(key, f"{limit.name}:{whose}:{window}", number):
                self._untold[key] = self._untold.get(key, 0) + number
        for known in (self._told, self._of_others):
            for key in [key for key in known if key[2] != now // key[0].window_s]:
                del known[key]

    async def _tell(self, key: _Key, name: str, number: int) -> bool:
        total = await self._redis.ask(lambda: self._storage.incr(name, key[0].window_s, number))
        if total is None:
            return False
        self._told[key] = self._told.get(key, 0) + number
        self._of_others[key] = total - self._told[key]
        return True


class RateLimiter:
    """The limits, and what counts."""

    def __init__(self, limits: dict[str, Limit], counter: MemoryCounter) -> None:
        self.address, self.principal = limits.get(ADDRESS), limits.get(PRINCIPAL)
        self.policy = (b"ratelimit-policy", ", ".join(limit.policy for limit in limits.values()).encode())
        """The header that each response has."""
        self.counter = counter


@asynccontextmanager
async def share_counts(config: Config, redis: "SharedRedis") -> AsyncIterator[RateLimiter]:
    """The limits that are configured, counted together with the other processes."""
    counter = SharedCounter(redis)
    async with running(counter.share_for_ever(), name="rate limits"):
        yield RateLimiter(limits_of(config), counter)


class Usage:
    """What one request uses of the limits; found in its scope as ``rate_limits``."""

    __slots__ = ("_limiter", "has_counted_principal", "items")

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter
        self.items: list[bytes] = []
        """What ``RateLimit`` says."""
        self.has_counted_principal = False

    def count_principal(self, name: str) -> None:
        """Count the request, once, against its principal's limit. Raises TooManyRequests: it is one too many."""
        limit = self._limiter.principal
        if limit is not None and not self.has_counted_principal:
            self.has_counted_principal = True
            if len(name) > LONGEST_NAME:  # Another issuer says how long its clients' names are.
                name = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
            self.count(limit, name)

    def count(self, limit: Limit, whose: str) -> None:
        """Count the request against a limit. Raises TooManyRequests: it is one too many."""
        # The time is asked for here, because a caller may be known long after the request began: that window may have
        # ended, and to count in it would throw away everybody's counts of this one.
        window, passed = divmod(int(time.time()), limit.window_s)
        left = limit.amount - self._limiter.counter.count(limit, whose, window)
        reset_s = limit.window_s - passed
        self.items.append(limit.item % (max(left, 0), reset_s))
        if left < 0:
            raise TooManyRequests(limit.name, reset_s)


class RateLimits:
    """Middleware: counts a request against its address, tells in each response what is left, and refuses with 429."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        limiter: RateLimiter = scope["state"]["resources"].rate_limiter
        scope["rate_limits"] = usage = Usage(limiter)

        def send_with_usage(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                told = (b"ratelimit", b", ".join(usage.items))
                message["headers"] = [*message["headers"], limiter.policy, told]
            return send(message)

        try:
            if limiter.address is not None and scope["client"] is not None:
                usage.count(limiter.address, network(scope["client"][0]))
        except TooManyRequests as error:
            response = problem_response(error.problem, str(error), headers=error.headers)
            return response(scope, receive, send_with_usage)
        return self.app(scope, receive, send_with_usage)


def rate_limited(config: Config) -> list[Middleware]:
    """The middleware, or none where no limit is set."""
    return [Middleware(RateLimits)] if limits_of(config) else []


async def limits_are_counted(request: Request) -> None:
    """Readiness: Redis answers, where there is one. Raises Unavailable: without it each process counts alone."""
    redis = resources_of(request).redis
    if redis is not None and not await redis.answers():
        raise Unavailable("Redis does not answer")
