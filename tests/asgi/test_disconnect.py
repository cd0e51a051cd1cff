"""CancelOnDisconnect in slow motion: what the app receives, and when it is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from starlette.types import Message, Receive, Scope, Send

from project.deadline import CancelOnDisconnect, Deadline

pytestmark = pytest.mark.asyncio

type App = Callable[[Receive, Send], Awaitable[None]]


class Client:
    """Sends its messages one after the other, each after a pause, and then is gone."""

    def __init__(self, *messages: tuple[float, Message | Exception]) -> None:
        self.messages = list(messages)
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        if not self.messages:
            return {"type": "http.disconnect"}
        pause, message = self.messages[0]
        await asyncio.sleep(pause)
        self.messages.pop(0)
        if isinstance(message, Exception):
            raise message
        return message

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def call(self, app: App) -> None:
        async def asgi(_scope: Scope, receive: Receive, send: Send) -> None:
            await app(receive, send)

        eager = Deadline(CancelOnDisconnect(asgi), 5)
        eager.TICK_S = 0.01  # type: ignore[misc]
        await eager({"type": "http", "method": "POST", "path": "/"}, self.receive, self.send)


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


GONE: Message = {"type": "http.disconnect"}
ANSWER: Message = {"type": "http.response.start", "status": 200, "headers": []}


async def test_client_goes__while_the_app_works__cancels_it() -> None:
    seen = []

    async def app(receive: Receive, _send: Send) -> None:
        seen.append(await receive())
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append({"type": "cancelled"})
            raise

    client = Client((0, part(b"all", more=False)), (0.1, GONE))
    await client.call(app)

    assert seen == [part(b"all", more=False), {"type": "cancelled"}]
    assert client.sent == [], "there is nobody to answer"


async def test_client_goes__though_its_body_was_never_read__cancels_the_app() -> None:
    client = Client((0, part(b"unread", more=False)), (0.05, GONE))

    async with asyncio.timeout(4):
        await client.call(lambda _receive, _send: asyncio.sleep(60))


async def test_slow_body__watched_half_way__arrives_whole_and_in_order() -> None:
    received = []

    async def app(receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            received.append(message["body"])
            more = message["more_body"]
            await asyncio.sleep(0.02)
        await send(ANSWER)
        assert await receive() == GONE
        assert await receive() == GONE

    parts = [(0.03, part(b"%d" % number)) for number in range(5)]
    await Client(*parts, (0.03, part(b"end", more=False)), (0.03, GONE)).call(app)

    assert received == [b"0", b"1", b"2", b"3", b"4", b"end"]


async def test_error_in_receiving__is_the_apps_to_raise() -> None:
    async def app(receive: Receive, _send: Send) -> None:
        await asyncio.sleep(0.05)
        await receive()
        await receive()

    with pytest.raises(ValueError, match="too large"):
        await Client((0, part(b"x")), (0, ValueError("too large"))).call(app)


async def test_client_goes__after_the_answer_began__lets_the_app_finish() -> None:
    done = []

    async def app(_receive: Receive, send: Send) -> None:
        await send(ANSWER)
        await asyncio.sleep(0.1)
        done.append("background task")

    await Client((0, part(b"", more=False)), (0.03, GONE)).call(app)

    assert done == ["background task"]


async def test_quick_answer__needs_no_watcher() -> None:
    async def app(receive: Receive, send: Send) -> None:
        await receive()
        await send(ANSWER)
        assert len(asyncio.all_tasks()) == 1

    await Client((0, part(b"", more=False))).call(app)


async def statuses_of(app: App, *, cancel_after_s: float | None = None) -> list[int]:
    """What is sent for a request whose deadline is almost at once."""
    client = Client()

    async def asgi(_scope: Scope, receive: Receive, send: Send) -> None:
        await app(receive, send)

    strict = Deadline(asgi, 0.02)
    strict.TICK_S = 0.01  # type: ignore[misc]
    serving = asyncio.create_task(strict({"type": "http", "method": "GET", "path": "/"}, client.receive, client.send))
    if cancel_after_s is not None:
        await asyncio.sleep(cancel_after_s)
        serving.cancel()
    await serving
    return [message["status"] for message in client.sent if message["type"] == "http.response.start"]


async def test_deadline__passes__is_a_504_even_where_the_app_ends_as_if_nothing_was() -> None:
    async def stubborn(_receive: Receive, _send: Send) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    async def obedient(_receive: Receive, _send: Send) -> None:
        await asyncio.sleep(60)

    async def with_an_answer_of_its_own(_receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await send(ANSWER)

    assert await statuses_of(obedient) == await statuses_of(stubborn) == [504]
    assert await statuses_of(with_an_answer_of_its_own) == [200]


async def test_deadline__somebody_else_cancels__is_not_swallowed() -> None:
    async def app(_receive: Receive, _send: Send) -> None:
        await asyncio.sleep(60)

    with pytest.raises(asyncio.CancelledError):
        await statuses_of(app, cancel_after_s=0.001)
