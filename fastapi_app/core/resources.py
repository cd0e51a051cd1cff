"""Everything the process holds open: opened in one place, within a time limit, and closed once, in reverse."""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from starlette.types import ASGIApp

from fastapi_app.core.database import Database, open_database
from fastapi_app.core.http_client import HttpClient
from fastapi_app.core.rate_limits import MemoryCounter, RateLimiter, limits_of, share_counts
from fastapi_app.core.revocation import RevocationView, open_revocations
from fastapi_app.core.security import Authenticator, open_authenticator
from fastapi_app.core.streams import StreamPlaces
from project.config import Config, StartupError

if TYPE_CHECKING:
    from fastapi_app.core.redis import SharedRedis

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resources:
    """What requests share. Each field is safe to use from many tasks at once; a session is not, and is not here."""

    database: Database
    http: HttpClient
    revocations: RevocationView
    authenticator: Authenticator
    redis: "SharedRedis | None"
    rate_limiter: RateLimiter
    streams: StreamPlaces


class ResourceStack:
    """Opens resources one after the other and closes them in reverse; neither a failure nor a hang stops the rest.

    No signal interrupts a lifespan and no time-out of the server covers it, so both halves are bounded here:
    all openings together by ``startup_timeout_s``, each closing by ``shutdown_timeout_s``.
    """

    def __init__(self, *, startup_timeout_s: float, shutdown_timeout_s: float) -> None:
        self.startup_timeout_s = startup_timeout_s
        self.shutdown_timeout_s = shutdown_timeout_s
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._startup_deadline = asyncio.get_running_loop().time() + self.startup_timeout_s
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def open[T](self, name: str, resource: AbstractAsyncContextManager[T]) -> T:
        """Enter ``resource``, to be left when the stack is.

        Raises:
            StartupError: it failed or took too long; the message names it.
        """
        try:
            async with asyncio.timeout_at(self._startup_deadline) as limit:
                value = await resource.__aenter__()
        except StartupError:
            raise
        except Exception as error:
            logger.debug("cannot open %s", name, exc_info=True)
            reason = (
                f"not open within {self.startup_timeout_s:g} s (STARTUP_TIMEOUT_S)"
                if limit.expired()
                else f"{type(error).__name__}: {' '.join(str(error).split())}"
            )
            raise StartupError(f"cannot open {name}: {reason}") from error
        self._stack.push_async_callback(self._close, name, resource)
        return value

    async def _close[T](self, name: str, resource: AbstractAsyncContextManager[T]) -> None:
        try:
            async with asyncio.timeout(self.shutdown_timeout_s):
                await resource.__aexit__(None, None, None)
        except Exception:
            logger.exception("cannot close %s", name)
            raise


async def _open_redis(stack: ResourceStack, config: Config) -> "SharedRedis":
    from fastapi_app.core.redis import open_redis  # noqa: PLC0415  Who has no Redis does not wait for its import.

    return await stack.open("Redis", open_redis(config))


async def open_resources(stack: ResourceStack, config: Config, issuer: ASGIApp) -> Resources:
    """Open what the API needs, each proving that it works. ``issuer`` serves this service's own ``/.well-known``.

    Raises:
        StartupError: one of them does not.
    """
    database = await stack.open("the database", open_database(config))
    http = await stack.open("the HTTP client", aclosing(HttpClient()))
    remember_s = config.max_token_ttl_s + 2 * config.clock_skew_s
    revocations = await stack.open("the revocations", open_revocations(database, remember_s=remember_s))
    authenticator = await stack.open(
        "the authenticator", open_authenticator(config, database, revocations, issuer, http)
    )
    redis = await _open_redis(stack, config) if config.redis_url else None
    rate_limiter = (
        await stack.open("the rate limiter", share_counts(config, redis))
        if redis
        else RateLimiter(limits_of(config), MemoryCounter())
    )
    streams = StreamPlaces(config.max_streams_per_caller)
    return Resources(database, http, revocations, authenticator, redis, rate_limiter, streams)
