"""Connections in numbers: whoever opens them keeps nobody out."""

import re
import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from project.connections import MOST_BY_DEFAULT, most_connections
from tests.asgi.server import PATIENCE_S, Server, serving
from tests.asgi.sockets import connected, received, request

pytestmark = [
    pytest.mark.attack,
    pytest.mark.skipif(sys.platform != "linux", reason="Only Linux limits the files of a running process."),
]

FILES = 256


@pytest.fixture(scope="module")
def server(migrated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may open few files."""
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(log, app="tests.asgi.apps:app", env={"HEADER_TIMEOUT_S": "20"}) as running:
        resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        yield running


@contextmanager
def many_connections(server: Server, number: int, begun: bytes) -> Iterator[list[socket.socket]]:
    """So many connections of one client, each with the beginning of a request."""
    with ExitStack() as stack:
        opened = []
        for _ in range(number):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE_S))
            opened.append(connection)
            try:
                connection.sendall(begun)
            except OSError:
                continue  # It has been closed already.
        yield opened


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HTTP/1.1\r\nX: ",
        request("/api/test/echo", "Content-Length: 5", method="POST"),
        request("/healthz"),
        request("/test/large"),
    ],
    ids=["silent", "half a head", "no body", "idle", "a response that is not read"],
)
def test_connections__more_of_one_client_than_files__keep_nobody_out(
    begun: bytes, server: Server, database: str
) -> None:
    with many_connections(server, 2 * FILES, begun):
        started = time.monotonic()
        statuses = [httpx2.get(f"{server.url}/readyz", timeout=PATIENCE_S).status_code for _ in range(20)]
        took_s = time.monotonic() - started

    assert statuses == [200] * 20
    assert took_s < PATIENCE_S
    assert "Too many open files" not in server.log


def test_connections__beyond_the_limit__are_said_in_one_line(server: Server) -> None:
    with many_connections(server, 2 * FILES, b""):
        server.until_logged(r"\d\d\d connections that waited for their clients were closed: MAX_CONNECTIONS, 128 here")


def test_connections__of_those_who_use_them__outlive_a_flood_of_silent_ones(server: Server) -> None:
    """A proxy keeps its connections, and sends a request on one whenever a client has one."""
    with httpx2.Client(base_url=server.url) as proxy:
        for _ in range(8):
            proxy.get("/healthz?proxy")
            with many_connections(server, 100, b""):
                pass

    ports = re.findall(r"127\.0\.0\.1:(\d+) - \"GET /healthz\?proxy ", server.log)
    assert (len(ports), len(set(ports))) == (8, 1)


def test_connections__when_all_are_being_served__a_new_one_is_refused_at_once(database: str, tmp_path: Path) -> None:
    env = {"MAX_CONNECTIONS": "3"}
    with (
        serving(tmp_path / "log", app="tests.asgi.apps:app", env=env) as server,
        many_connections(server, 3, request("/api/test/sleep?seconds=5", last=True)) as served,
    ):
        server.until_logged("request began", 3)
        with connected(server) as refused:
            answer = received(refused)
        finished = [received(connection) for connection in served]

    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert all(one.endswith(b'"slept"') for one in finished)


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nX: "], ids=["silent", "half a head"])
def test_connections__that_wait_for_their_client__are_all_closed_in_time(
    begun: bytes, migrated: None, tmp_path: Path
) -> None:
    with (
        serving(tmp_path / "log", env={"HEADER_TIMEOUT_S": "1"}) as server,
        many_connections(server, 500, begun) as opened,
    ):
        answers = {received(connection)[:12] for connection in opened}

    assert answers == ({b"HTTP/1.1 408"} if begun else {b""})


def test_most_connections__leaves_half_of_the_files() -> None:
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, most))
        assert most_connections() == 512
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    assert most_connections() == min(MOST_BY_DEFAULT, files // 2)
