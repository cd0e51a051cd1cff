"""Rate limits: so many requests of one caller, and from one address, in each window of time.

The window is fixed by the clock (every minute anew), because counting is then one addition in this process, or one
round trip to Redis, and its end is known to all: docs/decisions/0007-rate-limits.md.
"""

import ipaddress
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

from limits import parse
from limits.aio.storage import RedisStorage
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_app.core.errors import TooManyRequests, Unavailable
from fastapi_app.core.problems import problem_response
from fastapi_app.core.redis import SharedRedis
from fastapi_app.core.requests import AppRequest
from project.config import Config

ADDRESS, PRINCIPAL = "address", "principal"


@dataclass(frozen=True, slots=True)
class Limit:
    """So many requests of one of its kind in each window."""

    name: str
    amount: int
    window_s: int

    @property
    def policy(self) -> str:
        """An item of ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers)."""
        return f'"{self.name}";q={self.amount};w={self.window_s}'


def limits_of(config: Config) -> dict[str, Limit]:
    """The limits that are configured, by name."""
    written = {ADDRESS: config.rate_limit_address, PRINCIPAL: config.rate_limit_principal}
    parsed = {name: parse(text) for name, text in written.items() if text != "0"}
    return {name: Limit(name, limit.amount, limit.get_expiry()) for name, limit in parsed.items()}


class Counter(ABC):
    """Counts requests."""

    @abstractmethod
    async def count(self, limit: Limit, whose: str, window: int) -> int | None:
        """How many there are of one in this window, this one included; None when nobody knows."""


class MemoryCounter(Counter):
    """Counts in this process. A window's counts go when it ends, so nothing has to be looked for and deleted."""

    MOST_COUNTED = 100_000
    """Of a window; who comes after them is let through."""

    def __init__(self) -> None:
        self._windows: dict[str, tuple[int, dict[str, int]]] = {}

    async def count(self, limit: Limit, whose: str, window: int) -> int | None:
        current, counts = self._windows.get(limit.name, (-1, {}))
        if current != window:
            counts = {}
            self._windows[limit.name] = (window, counts)
        number = counts.get(whose, 0) + 1
        if number > 1 or len(counts) < self.MOST_COUNTED:
            counts[whose] = number
        return number


class RedisCounter(Counter):
    """Counts for all processes, in a storage of ``limits``."""

    def __init__(self, redis: SharedRedis) -> None:
        self._redis = redis
        pool: Any = redis.client.connection_pool  # It hands its options on to the client, whatever they are.
        self._storage = RedisStorage(
            "async+redis://", implementation="redispy", key_prefix="tandem:limits", connection_pool=pool
        )

    async def count(self, limit: Limit, whose: str, window: int) -> int | None:
        key = f"{limit.name}:{whose}:{window}"
        return await self._redis.ask(lambda: self._storage.incr(key, limit.window_s))


class RateLimiter:
    """The limits, and how much of them is used."""

    def __init__(self, limits: dict[str, Limit], redis: SharedRedis | None) -> None:
        self.limits = limits
        self.policy = ", ".join(limit.policy for limit in limits.values()).encode()
        self._counter: Counter = MemoryCounter() if redis is None else RedisCounter(redis)

    async def use(self, limit: Limit, whose: str) -> tuple[int, int]:
        """How many more requests there may be, below zero when this is one too many, and until when, in seconds."""
        now = time.time()
        window, passed = divmod(now, limit.window_s)
        count = await self._counter.count(limit, whose, int(window))
        return limit.amount - (count or 0), ceil(limit.window_s - passed)


class Usage:
    """What one request uses of the limits; found in its scope as ``rate_limits``."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter
        self._used: dict[str, str] = {}

    async def count(self, name: str, whose: str) -> None:
        """Count the request, once, against the limit of this name, if there is one.

        Raises:
            TooManyRequests: it is one too many.
        """
        limit = self._limiter.limits.get(name)
        if limit is None or name in self._used:
            return
        left, reset_s = await self._limiter.use(limit, whose)
        self._used[name] = f'"{name}";r={max(left, 0)};t={reset_s}'
        if left < 0:
            raise TooManyRequests(name, reset_s)

    async def count_principal(self, name: str) -> None:
        """Count the request against its principal's limit. Raises TooManyRequests."""
        await self.count(PRINCIPAL, name)

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """``RateLimit-Policy`` and ``RateLimit`` (draft-ietf-httpapi-ratelimit-headers)."""
        return (
            (b"ratelimit-policy", self._limiter.policy),
            (b"ratelimit", ", ".join(self._used.values()).encode()),
        )


class RateLimits:
    """Middleware: counts a request against its address, tells in each response what is left, and refuses with 429."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["rate_limits"] = usage = Usage(scope["state"]["resources"].rate_limiter)

        async def send_with_usage(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *usage.headers]}
            await send(message)

        try:
            if (client := scope.get("client")) is not None:
                await usage.count(ADDRESS, network(client[0]))
        except TooManyRequests as error:
            response = problem_response(error.status, str(error), headers=error.headers)
            await response(scope, receive, send_with_usage)
            return
        await self.app(scope, receive, send_with_usage)


def rate_limited(config: Config) -> list[Middleware]:
    """The middleware, or none where no limit is set."""
    return [Middleware(RateLimits)] if limits_of(config) else []


@lru_cache(maxsize=4096)
def network(host: str) -> str:
    """Whom an address stands for: of IPv6, one customer has the whole /64."""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


async def limits_are_counted(request: Request) -> None:
    """Readiness: Redis answers, where there is one. Raises Unavailable: without it requests pass uncounted."""
    redis = AppRequest(request.scope).state["resources"].redis
    if redis is not None and await redis.ask(redis.client.ping) is None:
        raise Unavailable("Redis does not answer")
