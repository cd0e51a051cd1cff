"""What the served command's protocol accepts of a connection: bytes, lines, requests in advance, and time."""

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from project.http_limits import MAX_HEADER_LENGTH, MAX_HEADER_LINES, MAX_TARGET_LENGTH
from project.protocol import MAX_PIPELINED
from tests.asgi.server import PATIENCE_S, Server, serving
from tests.asgi.sockets import HOST, answers, chunked, connected, exchange, received, request

pytestmark = pytest.mark.attack

HEALTH = request("/healthz")
LAST = request("/healthz", last=True)
HEADER_TIMEOUT_S = 1.0


@pytest.fixture(scope="module")
def hurried(migrated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits for no client longer than a second, or two, since it looks once a second."""
    env = {
        "HEADER_TIMEOUT_S": f"{HEADER_TIMEOUT_S}",
        "CLIENT_READ_TIMEOUT_S": "1",
        "REQUEST_TIMEOUT_S": "2",
        "DJANGO_POOL_SIZE": "3",
    }
    with serving(tmp_path_factory.mktemp("hurried") / "log", app="tests.asgi.apps:app", env=env) as running:
        yield running


def line(length: int, number: int = 0) -> str:
    """A header line whose name and value have so many bytes."""
    name = f"X-{number}"
    return f"{name}: {'x' * (length - len(name))}"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (request("/healthz", *(line(40, number) for number in range(MAX_HEADER_LINES - 2)), last=True), 200),
        (request("/healthz", *(line(40, number) for number in range(MAX_HEADER_LINES)), last=True), 431),
        (request("/healthz", line(MAX_HEADER_LENGTH), last=True), 200),
        (request("/healthz", line(MAX_HEADER_LENGTH + 1), last=True), 431),
        (request("/healthz", "N" * MAX_HEADER_LENGTH + ": 1", last=True), 431),
        (request("/healthz", *[line(MAX_HEADER_LENGTH - 100)] * 4, last=True), 200),
        (request("/healthz", *[line(MAX_HEADER_LENGTH)] * 4, last=True), 431),
        (request("/healthz", *[line(MAX_HEADER_LENGTH)] * 15, last=True), 431),
        (request(f"/healthz?{'q' * (MAX_TARGET_LENGTH - 8)}", last=True), 200),
        (request(f"/healthz?{'q' * (MAX_TARGET_LENGTH - 7)}", last=True), 414),
        (request(f"/healthz?{'q' * 70_000}", last=True), 414),
    ],
    ids=[
        "as many lines as may be",
        "a line too many",
        "as long a line as may be",
        "a line too long",
        "a name too long",
        "as many bytes as may be",
        "bytes too many",
        "many bytes too many",
        "as long a target as may be",
        "a target too long",
        "a target that fills segments",
    ],
)
@pytest.mark.parametrize("segments", ["one", "many"])
def test_head__about_its_limits__is_served_or_refused(segments: str, given: bytes, status: int, server: Server) -> None:
    size = len(given) if segments == "one" else 999
    pieces = [given[start : start + size] for start in range(0, len(given), size)]

    found = exchange(server, *pieces, pause_s=0)

    assert [answer for answer, _body in found] == [status]


@pytest.mark.parametrize(
    ("over", "kind"),
    [
        (request("/api/v1/users", line(MAX_HEADER_LENGTH + 1)), "headers-too-large"),
        (request("/api/v1/users", *["X: y"] * MAX_HEADER_LINES), "headers-too-large"),
        (request(f"/api/v1/users?{'q' * MAX_TARGET_LENGTH}"), "uri-too-long"),
    ],
    ids=["a line too long", "a line too many", "a target too long"],
)
def test_head__over_a_limit_of_the_api__is_answered_with_a_problem_and_so_is_what_follows(
    over: bytes, kind: str, server: Server
) -> None:
    (status, body), last = exchange(server, over + LAST)

    problem = json.loads(body)
    assert (problem["status"], problem["type"].rpartition("/")[2]) == (status, kind)
    assert problem["request_id"]
    assert last == (200, b"ok")


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /healthz HTTP/1.1\r\n" + HOST,
        b"GET /healthz HTTP/1.1\r\nX: ",
        b"GET /healthz HTTP/1.1\r\n" + b"n" * 50_000,
        b"GET /",
        b"",
        b"POST /api/test/echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n",
        b"POST /api/test/echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n5\r\nhello\r\n0\r\n",
        b"POST /api/test/echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n5\r\nhello\r\n0\r\nX: ",
        b"POST /api/test/echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n5;",
    ],
    ids=["lines", "a value", "a name", "a target", "empty lines", "zeros", "trailers", "a trailer", "an extension"],
)
def test_bytes_that_are_no_body__without_an_end__are_refused_before_they_are_many(begun: bytes, server: Server) -> None:
    more = {
        b"\r\n" + HOST: b"x: y\r\n",
        b"": b"\r\n",
        HOST + b"\r\n": b"0",
        b"0\r\n": b"x: y\r\n",
    }
    piece = next((piece for end, piece in more.items() if end and begun.endswith(end)), b"x") if begun else b"\r\n"
    sent = 0
    with connected(server) as connection:
        connection.sendall(begun)
        try:
            while sent < 8_000_000:
                sent += connection.send(piece * (8_000 // len(piece)))
        except OSError:
            pass
        found = received(connection)

    assert sent < 8_000_000, "the kernel buffers some, the server takes no more than its limit"
    assert [status for status, _body in answers(found)] in ([431], [414], [400], [])


def test_header_lines__of_192_mb__cost_no_memory(server: Server) -> None:
    memory = resident_mb(server)
    for _ in range(48):
        with connected(server) as connection:
            try:
                connection.sendall(request("/healthz")[:-2] + line(4_000).encode() * 1_000)
            except OSError:
                continue
            received(connection)

    assert resident_mb(server) - memory < 20


def resident_mb(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status")
    if not status.exists():
        pytest.skip("no /proc here")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status.read_text())[0]) / 1e3


def test_trailers__are_no_header_fields(server: Server) -> None:
    """RFC 9110, section 6.5.1: they come after the request has been judged by its header fields."""
    head = request("/api/test/echo", "Transfer-Encoding: chunked", method="POST")
    body = chunked(b"hello", trailers=b"Authorization: Bearer x\r\nX-Forwarded-For: 192.0.2.1\r\n")

    (_, answer), last = exchange(server, head + body + LAST)

    assert json.loads(answer) == {"length": 5, "headers": ["host", "transfer-encoding"]}
    assert last == (200, b"ok")


@pytest.mark.parametrize(
    "fault",
    [
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n",
        b"GET /healthz HTTP/1.1\n" + HOST + b"\n",
        b"POST /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n 0\r\n\r\nhello",
        b"POST /healthz HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"G" * 100_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=[
        "obs-fold",
        "space before the colon",
        "bare LF",
        "two lengths",
        "different lengths",
        "obs-fold in a length",
        "no chunk",
        "a long method",
        "TLS",
        "HTTP/2",
    ],
)
def test_request__malformed__is_answered_after_those_before_it(fault: bytes, server: Server) -> None:
    """An answer of its own, never in the place, or in the midst, of another request's."""
    alone = exchange(server, fault)
    behind = exchange(server, HEALTH * 2 + fault)

    assert [status for status, _body in alone] == [400]
    assert behind[:2] in ([(200, b"ok")] * 2, [])
    assert len(behind) in {0, 2}


def test_head__over_a_limit_behind_others__lets_them_be_answered_first(server: Server) -> None:
    found = exchange(server, HEALTH * 3 + request("/healthz", line(MAX_HEADER_LENGTH + 1)) + LAST)

    assert [status for status, _body in found] == [200, 200, 200, 431, 200]


def test_requests_in_advance__more_than_may_wait__are_answered_until_the_connection_closes(server: Server) -> None:
    found = exchange(server, HEALTH * 2_000)

    assert found == [(200, b"ok")] * (MAX_PIPELINED + 1)


@pytest.mark.parametrize("ending", [request("/healthz", last=True), b"GET /healthz HTTP/1.0\r\n" + HOST + b"\r\n"])
def test_bytes__after_the_last_request__are_not_run(ending: bytes, server: Server) -> None:
    assert exchange(server, ending + request("/healthz?after-the-end")) == [(200, b"ok")]
    assert "after-the-end" not in server.log


@pytest.mark.parametrize(
    ("begun", "status"),
    [
        (b"", None),
        (b"GET /healthz HTTP/1.1\r\nHo", 408),
        (HEALTH + b"GET /healthz HTTP/1.1\r\nHo", 408),
        (request("/api/test/hasty", "Content-Length: 9", method="POST"), None),
        (request("/api/test/hasty", "Content-Length: 9", method="POST") + b"x", None),
        (request("/api/test/hasty", "Transfer-Encoding: chunked", method="POST") + b"5;", None),
    ],
    ids=[
        "nothing",
        "half a head",
        "half of a second head",
        "no body, already answered",
        "half a body, already answered",
        "half a chunk, already answered",
    ],
)
@pytest.mark.parametrize("drips", [False, True], ids=["silent", "drips"])
def test_request__without_an_end__ends_its_connection(
    drips: bool, begun: bytes, status: int | None, hurried: Server
) -> None:
    with connected(hurried) as connection:
        connection.sendall(begun)
        stream = drip(connection) if drips and begun else received(connection)
    before, found = begun.count(b"\r\n\r\n"), answers(stream)

    assert [answer for answer, _body in found] == [200] * before + ([status] if status else [])


def drip(connection: socket.socket) -> bytes:
    """Send a byte now and then until the server closes; what it has sent."""
    connection.settimeout(0.2)
    pieces: list[bytes] = []
    ends_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends_at:
        try:
            if not (piece := connection.recv(65536)):
                return b"".join(pieces)
            pieces.append(piece)
        except TimeoutError:
            connection.send(b"x")
        except ConnectionError:
            return b"".join(pieces)
    raise AssertionError(f"still open after {PATIENCE_S} s")


def test_body__that_drips__is_the_deadlines(hurried: Server) -> None:
    with connected(hurried) as connection:
        connection.sendall(request("/api/test/echo", "Content-Length: 9999", method="POST"))
        found = answers(drip(connection))

    assert [status for status, _body in found] == [504]


def test_idle_connection__between_requests__outlives_the_time_of_a_head(hurried: Server) -> None:
    """That is the keep-alive time's, which must be longer than a proxy's."""
    with httpx2.Client(base_url=hurried.url) as client:
        client.get("/healthz")
        time.sleep(HEADER_TIMEOUT_S + 2.5)
        client.get("/healthz")

    assert len(set(re.findall(r"127\.0\.0\.1:(\d+) - \"GET /healthz ", hurried.log)[-2:])) == 1


@pytest.mark.parametrize("path", ["/test/large", "/test/endless-stream"])
def test_response__that_is_never_read__ends_its_connection(path: str, hurried: Server, database: str) -> None:
    with connected(hurried) as connection:
        connection.sendall(request(path))
        until_closed(hurried, connection)


def test_response__read_slowly__comes_whole(hurried: Server, database: str) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.settimeout(PATIENCE_S)
        connection.connect(("127.0.0.1", hurried.port))
        connection.sendall(request("/test/large", last=True))
        stream = b""
        for _ in range(8):
            stream += connection.recv(500_000, socket.MSG_WAITALL)
            time.sleep(0.5)
        ((status, body),) = answers(stream + received(connection))

    assert (status, len(body)) == (200, 8_000_000)


def until_closed(server: Server, connection: socket.socket) -> None:
    """Wait until the server holds the other end no longer."""
    port, ends_at = connection.getsockname()[1], time.monotonic() + PATIENCE_S
    ours, theirs = f"{port:04X}", f"{server.port:04X}"
    while time.monotonic() < ends_at:
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        states = {row[3] for row in lines if row[1].endswith(f":{theirs}") and row[2].endswith(f":{ours}")}
        if "01" not in states:
            return
        time.sleep(0.1)
    raise AssertionError(f"still open after {PATIENCE_S} s")
