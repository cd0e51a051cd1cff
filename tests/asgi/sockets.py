"""HTTP by hand, for what no client library sends."""

import contextlib
import re
import socket
import time
from collections.abc import Iterator

from tests.asgi.server import PATIENCE_S, Server

HOST = b"Host: 127.0.0.1\r\n"
SEGMENT_PAUSE_S = 0.05
"""So that the kernel does not join what is sent in two segments."""


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def exchange(server: Server, *segments: bytes, pause_s: float = SEGMENT_PAUSE_S) -> list[tuple[int, bytes]]:
    """Send these segments, and read until the server closes; the status and body of each answer."""
    with connected(server) as connection:
        for segment in segments:
            try:
                connection.sendall(segment)
            except OSError:  # The server has closed: what it said is still to be read.
                break
            time.sleep(pause_s if segment is not segments[-1] else 0)
        return answers(received(connection))


def received(connection: socket.socket) -> bytes:
    """Everything that comes until the server closes."""
    pieces = []
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def answers(stream: bytes) -> list[tuple[int, bytes]]:
    """The status and body of each response; all of them say their length."""
    found = []
    while stream:
        head, _, rest = stream.partition(b"\r\n\r\n")
        status, length = re.match(rb"HTTP/1.1 (\d+)", head), re.search(rb"(?i)content-length: (\d+)", head)
        assert status is not None, stream
        size = int(length[1]) if length else 0
        found.append((int(status[1]), rest[:size]))
        stream = rest[size:]
    return found


def request(target: str, *lines: str, method: str = "GET", body: bytes = b"", last: bool = False) -> bytes:
    """A request with these header lines; the ``last`` of a connection closes it."""
    head = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *lines]
    if body:
        head.append(f"Content-Length: {len(body)}")
    if last:
        head.append("Connection: close")
    return "\r\n".join([*head, "", ""]).encode() + body


def chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    """A body in chunks (RFC 9112, section 7.1)."""
    parts = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]
    return b"".join([*parts, b"0\r\n", trailers, b"\r\n"])
