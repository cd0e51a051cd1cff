"""Offers of another protocol on plain requests: the body stays with its request, and is never run as the next."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.asgi.server import PATIENCE_S, Server, serving
from tests.asgi.sockets import chunked, exchange, request

pytestmark = pytest.mark.attack

SMUGGLED = request("/healthz?smuggled")
LAST = request("/healthz", last=True)
OFFERS = ["h2c", "foo", "TLS/1.0", "h2c, websocket", "websocket"]
FRAMINGS = ["length", "chunked"]
SEGMENTS = ["one segment", "two segments", "byte by byte"]
CONNECTIONS = ["Upgrade, HTTP2-Settings", "keep-alive, upgrade", "close, Upgrade", "Upgrade\r\nConnection: keep-alive"]


@pytest.fixture(scope="module")
def plain_server(migrated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """``uvicorn asgi:app`` and nothing more: its httptools protocol."""
    with serving(
        tmp_path_factory.mktemp("plain") / "log", "--http", "httptools", app="tests.asgi.apps:app", env={}
    ) as running:
        yield running


@pytest.fixture(scope="module")
def h11_server(migrated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("h11") / "log", "--http", "h11", app="tests.asgi.apps:app", env={}) as running:
        yield running


def offering(offer: str, framing: str = "length", connection: str = "Upgrade") -> tuple[bytes, bytes]:
    """The head and the body of a POST that offers another protocol, and whose body is a request."""
    body = SMUGGLED if framing == "length" else chunked(SMUGGLED[:9], SMUGGLED[9:])
    length = f"Content-Length: {len(body)}" if framing == "length" else "Transfer-Encoding: chunked"
    lines = (length, f"Connection: {connection}", "HTTP2-Settings: AAMAAABkAAQAAP__", f"Upgrade: {offer}")
    return request("/api/test/echo", *lines, method="POST"), body


def in_segments(segments: str, head: bytes, body: bytes, *following: bytes) -> tuple[list[bytes], float]:
    """What is sent, in pieces, and the pause between two of them."""
    if segments == "one segment":
        return [head + body + b"".join(following)], 0
    if segments == "two segments":
        return [head, body + b"".join(following)], 0.05
    return [bytes([byte]) for byte in b"".join([head, body, *following])], 0.0002


@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("offer", OFFERS)
def test_offer__served_as_make_run_does__is_ignored_and_the_body_is_the_requests(
    offer: str, framing: str, segments: str, server: Server
) -> None:
    pieces, pause_s = in_segments(segments, *offering(offer, framing), LAST)

    first, last = exchange(server, *pieces, pause_s=pause_s)

    assert json.loads(first[1])["length"] == len(SMUGGLED)
    assert last == (200, b"ok")
    assert "smuggled" not in server.log


@pytest.mark.parametrize("connection", CONNECTIONS)
def test_offer__whatever_else_the_connection_header_says__is_ignored(connection: str, server: Server) -> None:
    first, *others = exchange(server, *offering("h2c", connection=connection), LAST)

    assert json.loads(first[1])["length"] == len(SMUGGLED)
    assert others == ([] if "close" in connection else [(200, b"ok")])


def test_offer__between_pipelined_requests__is_ignored_in_its_turn(server: Server) -> None:
    head, body = offering("h2c")

    found = exchange(server, (request("/healthz") + head + body) * 20 + LAST)

    assert [status for status, _ in found] == [200] * 41
    assert {json.loads(answer)["length"] for _, answer in found[1::2]} == {len(SMUGGLED)}


def test_offer__of_http_1_0__is_ignored(server: Server) -> None:
    """RFC 9110, section 7.8: even that of a websocket."""
    head, body = offering("websocket")

    (answer,) = exchange(server, head.replace(b"HTTP/1.1", b"HTTP/1.0") + body)

    assert json.loads(answer[1])["length"] == len(SMUGGLED)


def test_offer__ignored__leaves_the_other_fields_as_they_came(server: Server) -> None:
    lines = ("X-Mine: a", "Upgrade: h2c", "Connection: Upgrade, close, X-Mine", "Content-Length: 2")

    ((_, answer),) = exchange(server, request("/api/test/echo", *lines, method="POST") + b"hi")

    assert json.loads(answer) == {"length": 2, "headers": ["connection", "content-length", "host", "x-mine"]}


@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("offer", ["h2c", "foo", "TLS/1.0", "h2c, websocket"])
def test_offer__served_by_plain_uvicorn__is_refused_and_the_connection_closed(
    offer: str, framing: str, segments: str, plain_server: Server
) -> None:
    pieces, pause_s = in_segments(segments, *offering(offer, framing), LAST)

    found = exchange(plain_server, *pieces, pause_s=pause_s)

    assert found == [(400, b"Bad Request")]
    assert "smuggled" not in plain_server.log


@pytest.mark.parametrize("connection", CONNECTIONS)
def test_offer__behind_pipelined_requests_of_plain_uvicorn__ends_the_connection(
    connection: str, plain_server: Server
) -> None:
    head, body = offering("h2c", connection=connection)

    found = exchange(plain_server, request("/healthz") + head, body + LAST)

    assert found == [(200, b"ok"), (400, b"Bad Request")]
    assert "smuggled" not in plain_server.log


@pytest.mark.parametrize(
    "target", ["/admin/login/", "/o/token/", "/api/v1/users", "/healthz", "/nowhere", "/static/nothing", "/api"]
)
@pytest.mark.parametrize("lines", [(), ("Host: unknown.example",), ("Origin: https://a.example",)], ids=str)
@pytest.mark.parametrize("method", ["POST", "OPTIONS", "GET"])
def test_offer__whichever_layer_would_answer__plain_uvicorn_closes_the_connection(
    method: str, lines: tuple[str, ...], target: str, plain_server: Server
) -> None:
    offer = ("Connection: Upgrade", "Upgrade: h2c", f"Content-Length: {len(SMUGGLED)}")
    head = request(target, *offer, *lines, "Access-Control-Request-Method: POST", method=method)

    found = exchange(plain_server, head, SMUGGLED + LAST, pause_s=0.02)

    assert found == [(400, b"Bad Request")]
    assert "smuggled" not in plain_server.log


def test_offer__without_a_body__is_served_by_plain_uvicorn_too(plain_server: Server) -> None:
    offer = request("/healthz", "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 0")

    assert exchange(plain_server, offer, LAST) == [(200, b"ok")] * 2


@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_offer__served_by_h11__is_ignored_because_the_body_is_there(
    framing: str, segments: str, h11_server: Server
) -> None:
    pieces, pause_s = in_segments(segments, *offering("h2c", framing), LAST)

    first, last = exchange(h11_server, *pieces, pause_s=pause_s)

    assert json.loads(first[1])["length"] == len(SMUGGLED)
    assert last == (200, b"ok")
    assert "smuggled" not in h11_server.log


@pytest.mark.parametrize("target", ["example.com:80", "/healthz"])
def test_connect__never_runs_what_follows_it(target: str, server: Server, plain_server: Server) -> None:
    (served,) = exchange(server, request(target, method="CONNECT"), SMUGGLED)
    (plain,) = exchange(plain_server, request(target, method="CONNECT"), SMUGGLED)

    assert served[0] == 501
    assert plain[0] in {400, 501}  # uvicorn cannot read a target without a slash.
    assert "smuggled" not in server.log + plain_server.log


HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def test_websocket__handshake__comes_to_the_app(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "log", app="tests.asgi.websocket:app", env={}) as server,
        connect(f"ws://127.0.0.1:{server.port}/ws", proxy=None) as websocket,
    ):
        websocket.send("hello")

        assert websocket.recv(timeout=PATIENCE_S) == "hello"


def test_websocket__handshake_with_a_body__is_a_plain_request(server: Server) -> None:
    body = request("/healthz?smuggled")
    offer = request("/api/test/echo", *HANDSHAKE, method="POST", body=body)

    first, last = exchange(server, offer[: -len(body)], body + LAST)

    assert json.loads(first[1])["length"] == len(body)
    assert last == (200, b"ok")


def test_websocket__the_product_has_none__is_refused(server: Server) -> None:
    ((status, _body),) = exchange(server, request("/ws", *HANDSHAKE))

    assert status == 403
