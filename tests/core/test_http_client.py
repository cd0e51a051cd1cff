"""The client for calls to other services: made when it is needed, closed with the process."""

import asyncio
from contextlib import aclosing

import httpx2
import pytest

from fastapi_app.core.http_client import HttpClient

pytestmark = pytest.mark.asyncio


async def other_service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers one request, and keeps the connection open until its client closes it."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
    await reader.read()
    writer.close()


async def test_client__called__answers_and_is_closed_at_the_end() -> None:
    service = await asyncio.start_server(other_service, "127.0.0.1", 0)
    host, port = service.sockets[0].getsockname()

    async with aclosing(HttpClient()) as http, asyncio.timeout(30):
        answer = await http.client.get(f"http://{host}:{port}/")
        client = http.client
        assert not client.is_closed
    service.close()
    async with asyncio.timeout(30):
        await service.wait_closed()  # The connection that was kept open is closed, too.

    assert answer.text == "hello"
    assert client.is_closed


async def test_client__nobody_is_called__is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx2, "AsyncClient", None)

    async with aclosing(HttpClient()):
        pass
