"""The stack of resources: order, failures, bounds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fastapi_app.core.resources import ResourceStack
from project.config import StartupError

pytestmark = pytest.mark.asyncio


class Log(list[str]):
    @asynccontextmanager
    async def resource(
        self, name: str, *, on_open: Exception | float = 0, on_close: Exception | float = 0
    ) -> AsyncIterator[str]:
        await self._do(f"open {name}", on_open)
        yield name
        await self._do(f"close {name}", on_close)

    async def _do(self, step: str, trouble: Exception | float) -> None:
        if isinstance(trouble, Exception):
            raise trouble
        await asyncio.sleep(trouble)
        self.append(step)


def stack() -> ResourceStack:
    return ResourceStack(startup_timeout_s=0.2, shutdown_timeout_s=0.1)


async def test_stack__all_well__closes_in_reverse() -> None:
    log = Log()
    async with stack() as resources:
        assert await resources.open("a", log.resource("a")) == "a"
        await resources.open("b", log.resource("b"))

    assert log == ["open a", "open b", "close b", "close a"]


async def test_stack__the_second_fails__closes_the_first() -> None:
    log = Log()
    with pytest.raises(StartupError, match=r"^cannot open b: ValueError: two lines$"):
        async with stack() as resources:
            await resources.open("a", log.resource("a"))
            await resources.open("b", log.resource("b", on_open=ValueError("two\nlines")))

    assert log == ["open a", "close a"]


async def test_stack__all_together_are_too_slow__stops_at_the_bound() -> None:
    log = Log()
    with pytest.raises(StartupError, match=r"^cannot open b: not open within 0.2 s \(STARTUP_TIMEOUT_S\)$"):
        async with stack() as resources:
            await resources.open("a", log.resource("a", on_open=0.15))
            await resources.open("b", log.resource("b", on_open=0.15))

    assert log == ["open a", "close a"]


async def test_stack__a_reason_in_plain_words__is_kept_as_it_is() -> None:
    with pytest.raises(StartupError, match=r"^do this$"):
        async with stack() as resources:
            await resources.open("a", Log().resource("a", on_open=StartupError("do this")))


@pytest.mark.parametrize("trouble", [ValueError("no"), 60.0])
async def test_stack__one_cannot_close__closes_the_others_and_tells(
    trouble: Exception | float, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log()
    with pytest.raises((ValueError, TimeoutError)):
        async with stack() as resources:
            await resources.open("a", log.resource("a"))
            await resources.open("b", log.resource("b", on_close=trouble))
            await resources.open("c", log.resource("c"))

    assert log == ["open a", "open b", "open c", "close c", "close a"]
    assert "cannot close b" in caplog.text
