"""Redis, or Valkey, where ``REDIS_URL`` names one: shared by the processes, and done without while it is dead."""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from project.config import Config

logger = logging.getLogger(__name__)

TIMEOUT_S = 0.25
"""For a connection, and for an answer."""
MOST_CONNECTIONS = 16
RETRY_AFTER_S = 1.0
"""In an outage Redis is asked no more often, whoever asks."""


class SharedRedis:
    """A client that says what it was asked, or None while Redis does not answer; the log has each outage once."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self._is_down = False
        self._try_again_at = 0.0

    async def ask[T](self, question: Callable[[], Awaitable[T]]) -> T | None:
        """What ``question`` answers, or None during an outage."""
        if self._is_down:
            if time.monotonic() < self._try_again_at:
                return None
            self._try_again_at = time.monotonic() + RETRY_AFTER_S
        try:
            answer = await question()
        except (RedisError, OSError, TimeoutError) as error:
            self._note_down(error)
            return None
        if self._is_down:
            self._is_down = False
            logger.info("Redis answers again")
        return answer

    async def answers(self) -> bool:
        """Whether it does, just now."""
        return await self.ask(lambda: self.client.execute_command("PING")) is not None  # type: ignore[no-untyped-call]

    def _note_down(self, error: Exception) -> None:
        self._try_again_at = time.monotonic() + RETRY_AFTER_S
        if not self._is_down:
            self._is_down = True
            logger.warning("Redis does not answer, each process does without it until it does: %s", error)


@asynccontextmanager
async def open_redis(config: Config) -> AsyncIterator[SharedRedis]:
    """The Redis that is configured; a dead one is told in the log and stops nothing."""
    pool = BlockingConnectionPool.from_url(
        config.redis_url.get_secret_value(),
        max_connections=MOST_CONNECTIONS,
        timeout=TIMEOUT_S,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
    )
    client = Redis(connection_pool=pool)
    shared = SharedRedis(client)
    try:
        await shared.answers()
        yield shared
    finally:
        await client.aclose()
        await pool.aclose()
