"""Clients that ask and do not read: they cost nobody else a page, and none of what a page needs."""

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import connection
from starlette.requests import Request

from project.accounts.models import User
from project.database import migrations_are_applied
from project.protocol import MAX_PIPELINED
from tests.asgi.server import PATIENCE_S, Server, serving

LONG = "a" * 2_000
"""What the log-in page repeats, so that it takes fewer of them to fill what sockets buffer; more it would not."""


@contextmanager
def slow_readers(server: Server, path: str, *, clients: int, requests: int) -> Iterator[None]:
    """So many clients that send so many requests each, and read nothing; the server has come to wait for them."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    with ThreadPoolExecutor() as threads, ExitStack() as stack:
        for _ in range(clients):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            threads.submit(send_in_turns, server, client, request, requests)
            stack.callback(client.shutdown, socket.SHUT_RDWR)  # Or it would send for ever, too.
        until_stalled(server, f'"GET {path} ')
        yield


def send_in_turns(server: Server, client: socket.socket, request: bytes, requests: int) -> None:
    """Send no more in advance than the server lets wait, until it answers no longer."""
    line = f'"{request.split(b" HTTP")[0].decode()} '
    before = server.log.count(line)
    for sent in range(0, requests, MAX_PIPELINED // 2):
        while server.log.count(line) - before < sent:
            time.sleep(0.05)
            client.getpeername()  # It raises once the test has ended the connection.
        client.sendall(request * min(MAX_PIPELINED // 2, requests))


def until_stalled(server: Server, line: str) -> None:
    """Wait until the log has the line, and has had no more of it for a second."""
    server.until_logged(re.escape(line))
    seen = 0
    while (now := server.log.count(line)) > seen:
        seen = now
        time.sleep(1)


@pytest.mark.parametrize(
    ("taken", "clients", "requests", "wanted"),
    [
        ("/test/endless-stream", 4, 1, "/test/overlap?seconds=0"),
        ("/test/large", 4, 1, "/test/overlap?seconds=0"),
        ("/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js", 4, 6, "/test/overlap?seconds=0"),
        (f"/accounts/login/?next=/{LONG}", 1, 2_000, "/accounts/login/"),
    ],
    ids=["a stream that queries nothing", "a large page", "a static file", "the log-in page"],
)
def test_slow_readers__of_what_needs_no_connection_any_more__cost_nobody_a_page(
    taken: str, clients: int, requests: int, wanted: str, server: Server, database: str
) -> None:
    with slow_readers(server, taken, clients=clients, requests=requests):
        answers = [httpx2.get(f"{server.url}{wanted}", timeout=PATIENCE_S) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 3


def test_slow_readers__of_a_stream_that_queries__are_cut_off(database: str, tmp_path: Path) -> None:
    """It keeps its connection, and so its place, of which there are two."""
    env = {"DATABASE_URL": database, "DJANGO_POOL_SIZE": "3", "STREAM_READ_S": "1"}
    with (
        serving(tmp_path / "log", app="tests.asgi.apps:app", env=env) as server,
        slow_readers(server, "/test/endless-stream?query", clients=2, requests=1),
    ):
        server.until_logged("a stream has waited 1 s for its client", 2)
        answer = httpx2.get(f"{server.url}/test/overlap?seconds=0", timeout=PATIENCE_S)

    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/test/stream", "/test/async-stream"])
def test_stream__queries_while_it_is_sent__comes_whole_as_often_as_asked(
    path: str, server: Server, database: str
) -> None:
    emails = [f"user{number}@stream.example" for number in range(9)]
    User.objects.bulk_create(User(email=email) for email in emails)

    answers = [httpx2.get(f"{server.url}{path}", timeout=PATIENCE_S) for _ in range(4)]

    assert [answer.text.split() for answer in answers] == [emails] * 4


def test_readiness__keeps_no_connection_while_its_answer_is_sent(database: str) -> None:
    async def is_connected_afterwards() -> bool:
        async with ThreadSensitiveContext():
            await migrations_are_applied(Request({"type": "http"}))
            return await sync_to_async(lambda: connection.connection is not None)()

    assert not asyncio.run(is_connected_afterwards())
