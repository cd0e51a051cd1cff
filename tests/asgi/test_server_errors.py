"""After an unexpected error: the client's connection, and what the log says of it, over real sockets."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.asgi.server import PATIENCE_S, Server


class Connection:
    """One connection, on which requests follow each other."""

    def __init__(self, socket_: socket.socket) -> None:
        self._socket = socket_
        self._received = b""

    def send(self, path: str, *, body: bytes = b"", head: str = "") -> None:
        method = "POST" if body else "GET"
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self._socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}{length}\r\n".encode() + body)

    def receive(self) -> tuple[int, bytes]:
        """The next response: its status and its body, whose length it must declare."""
        while b"\r\n\r\n" not in self._received:
            self._receive_more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        assert b"connection: close" not in head.lower(), head
        length = re.search(rb"content-length: (\d+)", head.lower())
        assert length is not None, head
        while len(self._received) < int(length[1]):
            self._receive_more()
        body, self._received = self._received[: int(length[1])], self._received[int(length[1]) :]
        return int(head.split()[1]), body

    def receive_rest(self) -> bytes:
        """All that comes until the server closes the connection."""
        with suppress(ConnectionResetError):  # It is reset when a request that had come was not read.
            while piece := self._socket.recv(65536):
                self._received += piece
        return self._received

    def _receive_more(self) -> None:
        piece = self._socket.recv(65536)
        assert piece, f"the connection is closed: {self._received!r}"
        self._received += piece


@contextmanager
def connected(server: Server) -> Iterator[Connection]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
        yield Connection(connection)


@pytest.mark.attack
@pytest.mark.parametrize(
    "path",
    ["/api/test/boom", "/api/test/direct-boom", "/test/boom", "/root-boom"],
    ids=["FastAPI's way", "a direct route", "a page of Django", "the root itself"],
)
def test_unexpected_error__the_next_request_is_on_its_way__is_answered_on_the_same_connection(
    path: str, server: Server, database: str
) -> None:
    with connected(server) as connection:
        for _ in range(3):
            connection.send(path)
            connection.send("/healthz")  # Before the error is answered.
            assert connection.receive()[0] == 500
            assert connection.receive() == (200, b"ok")


@pytest.mark.attack
def test_unexpected_error__its_body_was_not_read__does_not_become_the_next_request(
    server: Server, database: str
) -> None:
    with connected(server) as connection:
        connection.send("/api/test/direct-boom", body=b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 100)
        connection.send("/healthz")
        assert connection.receive()[0] == 405
        assert connection.receive() == (200, b"ok")


def test_unexpected_error__is_logged_once_with_its_traceback_and_its_request(server: Server, database: str) -> None:
    for path, error in (("/api/test/boom", "LookupError"), ("/api/test/direct-boom", "LookupError")):
        request_id = f"once-{path.rpartition('/')[2]}"
        with connected(server) as connection:
            connection.send(path, head=f"X-Request-ID: {request_id}\r\n")
            connection.receive()
        server.until_logged(
            rf"ERROR \[{request_id}\] project.server_errors: GET '{path}': an unexpected error\n    Traceback"
        )
        server.until_logged(f"{error}: the secret is 42")
        assert server.log.count(f"ERROR [{request_id}]") == 1


@pytest.mark.attack
@pytest.mark.parametrize("path", ["/api/test/breaks-off", "/test/breaks-off"])
def test_stream__breaks_off__closes_the_connection_without_an_end(path: str, server: Server, database: str) -> None:
    """A client must see that the file is not whole, and must not take the next response for the rest of it."""
    with connected(server) as connection:
        connection.send(path)
        connection.send("/healthz")
        received = connection.receive_rest()

    assert b"200 OK" in received
    assert b"the beginning" in received
    assert not received.endswith(b"0\r\n\r\n")
    assert b"\r\n\r\nok" not in received


@pytest.mark.attack
def test_response__shorter_than_it_says__closes_the_connection(server: Server, database: str) -> None:
    with connected(server) as connection:
        connection.send("/api/test/too-short")
        connection.send("/healthz")
        received = connection.receive_rest()

    assert b"content-length: 100" in received
    assert b"\r\n\r\nok" not in received
