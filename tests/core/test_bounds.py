"""One request must not stop the process: what a request may carry, and what it may cost the event loop."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from asgi_lifespan import LifespanManager
from starlette.types import ASGIApp, Message

from asgi import app
from project.accounts.models import User
from project.http_limits import (
    MAX_FAULTS,
    MAX_HEADER_BYTES,
    MAX_HEADER_LENGTH,
    MAX_HEADER_LINES,
    MAX_JSON_DEPTH,
    MAX_JSON_MEMBERS,
    MAX_LIST_PARTS,
    MAX_QUERY_PARAMETERS,
    MAX_TARGET_LENGTH,
)
from tests.fixtures import IssueToken

pytestmark = [pytest.mark.asyncio, pytest.mark.attack]

COST_S = 0.020
"""Processor time of the event loop that each begun 100 kB of a request may cost."""
JSON = (b"content-type", b"application/json")
KB, MB = 1000, 1_000_000

type Header = tuple[bytes, bytes]


@dataclass
class Answer:
    status: int = 0
    headers: list[Header] = field(default_factory=list)
    body: bytes = b""
    cost_s: float = 0.0
    read: int = 0
    """Bytes of the request's body that the app asked for."""

    @property
    def problem(self) -> dict[str, Any]:
        assert dict(self.headers)[b"content-type"] == b"application/problem+json", self.body[:200]
        problem: dict[str, Any] = json.loads(self.body)
        assert problem["status"] == self.status
        return problem


async def ask(
    root: ASGIApp, method: str, path: str, headers: Iterable[Header] = (), *, query: bytes = b"", body: bytes = b""
) -> Answer:
    """One request, as a server hands it on, and what it cost this thread, which runs the event loop."""
    answer = Answer()
    chunks = [body[start : start + 64 * KB] for start in range(0, len(body), 64 * KB)] or [b""]

    async def receive() -> Message:
        if not chunks:
            await asyncio.Event().wait()  # The client stays.
        chunk = chunks.pop(0)
        answer.read += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], list(message["headers"])
        answer.body += message.get("body", b"")

    length = [(b"content-length", b"%d" % len(body))] if body else []
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "", "query_string": query,
        "client": ("127.0.0.1", 1), "server": ("testserver", 80),
        "headers": [(b"host", b"testserver"), *length, *headers],
    }  # fmt: skip
    began = time.thread_time()
    await root(scope, receive, send)
    answer.cost_s = time.thread_time() - began
    return answer


async def cheapest(root: ASGIApp, *request: Any, size: int, **options: Any) -> Answer:
    """The answer of three that cost least, and not more than a request of its size may."""
    answers = [await ask(root, *request, **options) for _ in range(3)]
    best = min(answers, key=lambda answer: answer.cost_s)
    allowed = COST_S * -(-size // (100 * KB))
    assert best.cost_s < allowed, f"{size} bytes cost {best.cost_s * 1000:.0f} ms of {allowed * 1000:.0f} ms"
    return best


@pytest_asyncio.fixture
async def root(database: str) -> AsyncIterator[ASGIApp]:
    """The whole app on its lifespan, without a client in front."""
    async with LifespanManager(app, startup_timeout=60, shutdown_timeout=60) as manager:
        yield manager.app


@pytest.fixture
def writer_token(alice: User, issue_token: IssueToken) -> Header:
    return b"authorization", f"Bearer {issue_token(alice, 'users:read', 'users:write')}".encode()


# The head


def of_length(name: bytes, length: int, part: bytes = b"x") -> Header:
    """A header that has this length, its name included."""
    room = length - len(name)
    return name, (part * (room // len(part) + 1))[:room]


FULL = [of_length(b"x-%d" % number, MAX_HEADER_LENGTH - 1) for number in range(3)]
HEADS: dict[str, tuple[list[Header], bytes, int]] = {
    "an Accept of 4 MB": ([of_length(b"accept", 4 * MB, b"a/a,")], b"", 431),
    "an Accept of many parts": ([(b"accept", b"a/a," * (MAX_LIST_PARTS + 1))], b"", 431),
    "an Accept of many parameters": ([(b"accept", b"a/a" + b";q=1" * (MAX_LIST_PARTS + 1))], b"", 431),
    "an If-None-Match of 256 kB": ([of_length(b"if-none-match", 256 * KB, b'"a",')], b"", 431),
    "an If-Match of many tags": ([(b"if-match", b'"a",' * (MAX_LIST_PARTS + 1))], b"", 431),
    "an Accept-Encoding of 1 MB": ([of_length(b"accept-encoding", MB, b"a,")], b"", 431),
    "a Range of many ranges": ([(b"range", b"bytes=" + b"0-1," * (MAX_LIST_PARTS + 1))], b"", 431),
    "a Cookie of many cookies": ([(b"cookie", b"a=b;" * (MAX_LIST_PARTS + 1))], b"", 431),
    "a Content-Type of many parameters": ([(b"content-type", b'a/b;"' * (MAX_LIST_PARTS + 1))], b"", 431),
    "a Forwarded of many proxies": ([(b"forwarded", b"for=a," * (MAX_LIST_PARTS + 1))], b"", 431),
    "one header that is too long": ([of_length(b"x", MAX_HEADER_LENGTH + 1)], b"", 431),
    "a name that is too long": ([(b"x" * (MAX_HEADER_LENGTH + 1), b"")], b"", 431),
    "too many bytes of headers": ([*FULL, of_length(b"y", 9 * KB), of_length(b"z", 9 * KB)], b"", 431),
    "too many lines": ([(b"a", b"b")] * (MAX_HEADER_LINES + 1), b"", 431),
    "a million lines": ([(b"a", b"b")] * MB, b"", 431),
    "a target that is too long": ([], b"a=" + b"x" * MAX_TARGET_LENGTH, 414),
    "a target of 50 MB": ([], b"x" * (50 * MB), 414),
    "too many parameters": ([], b"a&" * MAX_QUERY_PARAMETERS, 400),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("path", ["/api/v1/users", "/", "/admin/login/", "/healthz"])
async def test_head__beyond_a_bound__is_refused_before_anybody_reads_it(name: str, path: str, root: ASGIApp) -> None:
    headers, query, status = HEADS[name]
    size = sum(len(key) + len(value) for key, value in headers) + len(query)
    answer = await cheapest(root, "GET", path, headers, query=query, size=size)

    assert answer.status == status
    assert dict(answer.headers)[b"x-request-id"]
    if path.startswith("/api"):
        assert answer.problem["detail"]


async def test_head__at_every_bound__is_read(root: ASGIApp) -> None:
    target = b"a=" + b"x" * (MAX_TARGET_LENGTH - len("/healthz") - 2)
    few = 300  # The bytes that every request here has.
    full = [*FULL, of_length(b"y", MAX_HEADER_BYTES - sum(len(a) + len(b) for a, b in FULL) - few)]
    lines = [(b"a", b"b")] * (MAX_HEADER_LINES - len(full) - 1)

    assert (await ask(root, "GET", "/healthz", [*full, *lines], query=target)).status == 200
    assert (await ask(root, "GET", "/healthz", query=b"a&" * (MAX_QUERY_PARAMETERS - 1))).status == 200
    assert (await ask(root, "GET", "/healthz", [(b"accept", b"a/a," * MAX_LIST_PARTS)])).status == 200
    # A cookie may have commas in it, as some programs write them.
    assert (await ask(root, "GET", "/healthz", [(b"cookie", b"a=" + b"1," * 1000)])).status == 200


async def test_websocket__with_a_head_beyond_a_bound__is_closed(root: ASGIApp) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/x", "query_string": b"", "headers": [(b"a", b"b")] * 101}
    await root(scope, receive, send)

    assert [message["type"] for message in sent] == ["websocket.close"]


AT_THE_BOUND: dict[str, list[Header]] = {
    "accept": [(b"accept", b"a,b;" * (MAX_LIST_PARTS // 2 - 1))] * 30,
    "accept of short lines": [(b"accept", b"a," * 127)] * 95,
    "accept of spaces": [of_length(b"accept", MAX_HEADER_LENGTH, b" ")] * 3,
    "accept of one weight": [of_length(b"accept", MAX_HEADER_LENGTH, b"a/a;q=1" + b"0" * 16_000)] * 3,
    "accept-encoding": [(b"accept-encoding", b"a," * 127)] * 95,
    "if-none-match": [(b"if-none-match", b'"a",' * (MAX_LIST_PARTS - 1))] * 50,
    "if-none-match of spaces": [of_length(b"if-none-match", MAX_HEADER_LENGTH, b" ")] * 3,
    "if-none-match of commas": [(b"if-none-match", b"," * MAX_LIST_PARTS)] * 50,
    "if-none-match, open": [(b"if-none-match", b'"a"' * 5000)],
    "if-none-match of quotes": [of_length(b"if-none-match", MAX_HEADER_LENGTH, b'"')],
    "cookie": [(b"cookie", b'a="\\"' * (MAX_LIST_PARTS - 1))] * 50,
    "authorization": [of_length(b"authorization", MAX_HEADER_LENGTH, b"Bearer ")] * 3,
    "a token of dots": [(b"authorization", b"Bearer " + b"." * 8000)],
    "a token of deep JSON": [(b"authorization", b"Bearer " + b"W1tb" * 1900 + b".W1tb.x")],
    "an API key": [(b"authorization", b"Bearer tdm_" + b"x" * 16_000)],
    "host": [of_length(b"host", MAX_HEADER_LENGTH, b"a.")] * 3,
    "x-request-id": [of_length(b"x-request-id", MAX_HEADER_LENGTH)] * 3,
    "origin": [of_length(b"origin", MAX_HEADER_LENGTH)] * 3,
}


@pytest.mark.parametrize("name", AT_THE_BOUND)
@pytest.mark.parametrize("path", ["/api/v1/users/me", "/api/v1/users/export"])
async def test_head__within_the_bounds__costs_little_whatever_is_in_it(
    name: str, path: str, root: ASGIApp, writer_token: Header
) -> None:
    headers = AT_THE_BOUND[name]
    size = sum(len(key) + len(value) for key, value in headers)
    token = [] if headers[0][0] == b"authorization" else [writer_token]
    answer = await cheapest(root, "GET", path, [*token, *headers], size=size)

    assert answer.status in {200, 400, 401, 406, 422}


QUERIES = {
    "parameters": b"a&" * (MAX_QUERY_PARAMETERS - 1),
    "percent": b"search=" + b"%C3%A9" * 1300,
    "unknown names": b"&".join(b"%d=1" % number for number in range(MAX_QUERY_PARAMETERS)),
    "one name": b"&".join([b"limit=x"] * MAX_QUERY_PARAMETERS),
    "a long name": b"x" * 8000 + b"=1",
    "digits": b"limit=" + b"9" * 8000,
    "a cursor": b"cursor=" + b"A" * 8000,
    "a cursor that fits": b"cursor=" + b"A" * 2000,
}


@pytest.mark.parametrize("name", QUERIES)
async def test_query__within_the_bounds__costs_little_whatever_is_in_it(
    name: str, root: ASGIApp, writer_token: Header
) -> None:
    answer = await cheapest(root, "GET", "/api/v1/users", [writer_token], query=QUERIES[name], size=8 * KB)

    assert answer.status in {200, 400, 422}
    assert len(answer.body) < 100 * KB
    if answer.status == 422:
        assert len(answer.problem["errors"]) <= MAX_FAULTS


# JSON


def unknown_keys(number: int) -> bytes:
    return b'{"email": "a@example.com", ' + b", ".join(b'"k%d": 1' % one for one in range(number)) + b"}"


BODIES: dict[str, bytes] = {
    "370,000 unknown keys": unknown_keys(370_000),
    "as many unknown keys as allowed": unknown_keys(MAX_JSON_MEMBERS - 2),
    "1,000 unknown keys": unknown_keys(999),
    "one key": b"{" + b",".join([b'"a":1'] * 400_000) + b"}",
    "arrays": b"[" + b",".join([b"[]"] * 400_000) + b"]",
    "as many arrays as allowed": b"[" + b",".join([b"[]"] * (MAX_JSON_MEMBERS // 2 - 1)) + b"]",
    "objects": b'{"a":' + b'{"a":{},"b":' * 300_000,
    "deep": b"[" * 2_000_000,
    "deep and closed": b"[" * 1_000_000 + b"]" * 1_000_000,
    "deep objects": b'{"a":' * 500_000 + b"1" + b"}" * 500_000,
    "deep within a string that ends": b'{"a": "' + b"\\\\" * 100 + b'", "b": ' + b"[" * 100_000,
    "closings": b"[" * 65 + b"]" * 2_000_000,
    "a huge number": b'{"a": ' + b"9" * 2_000_000 + b"}",
    "huge numbers": b"[" + b",".join([b"9" * 4300] * 500) + b"]",
    "a fraction": b"[0." + b"1" * 2_000_000 + b"]",
    "an exponent": b"[1e" + b"9" * 2_000_000 + b"]",
    "escapes": b'{"display_name": "' + b"\\u00e9" * 400_000 + b'"}',
    "escapes, open": b'{"display_name": "' + b'\\"' * 1_000_000,
    "half pairs": b'{"display_name": "' + b"\\ud800" * 400_000 + b'"}',
    "quotes": b"[" * 70 + b'"' * 1_000_000,
    "commas in a string": json.dumps({"email": "a@example.com", "display_name": "a, [b], {c}; " * 100_000}).encode(),
    "unicode": json.dumps({"email": "\U0001f600" * 100_000}, ensure_ascii=False).encode(),
    "unicode keys": json.dumps({"\U0001f600" * 200_000: 1}, ensure_ascii=False).encode(),
    "a long key": b'{"' + b"k" * 4_000_000 + b'": 1}',
    "long keys": b"{" + b",".join(b'"%d%s": 1' % (number, b"k" * 5000) for number in range(500)) + b"}",
    "UTF-16": unknown_keys(100_000).decode().encode("utf-16"),
    "UTF-32": unknown_keys(40_000).decode().encode("utf-32"),
    "invalid UTF-8": b'{"email": "' + b"\xff" * 2_000_000 + b'"}',
    "invalid at its end": b'{"display_name": "' + b"x" * 2_000_000 + b'"',
    "not numbers": b"[" + b",".join([b"NaN"] * 400_000) + b"]",
    "spaces": b" " * 4_000_000,
    "an address": b'{"email": "' + b"a." * 1_000_000 + b'@example.com"}',
    "a domain": b'{"email": "a@' + b"a." * 1_000_000 + b'com"}',
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("own_way", [True, False], ids=["direct", "FastAPI's"])
async def test_json__whatever_is_sent__costs_little_and_is_refused_in_few_words(
    name: str, own_way: bool, root: ASGIApp, writer_token: Header
) -> None:
    headers = [writer_token, JSON, *([] if own_way else [(b"idempotency-key", b"k-%d" % id(name))])]
    body = BODIES[name]
    answer = await cheapest(root, "POST", "/api/v1/users", headers, body=body, size=len(body))

    assert answer.status in {400, 422}
    assert len(answer.body) < 200 * KB
    if answer.status == 422:
        assert len(answer.problem["errors"]) <= MAX_FAULTS


@pytest.mark.parametrize("own_way", [True, False], ids=["direct", "FastAPI's"])
@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH, 422, "valid dictionary"),
        (b"[" * (MAX_JSON_DEPTH + 1) + b"]" * (MAX_JSON_DEPTH + 1), 400, f"deeper than {MAX_JSON_DEPTH} levels"),
        (b"[" + b",".join([b"1"] * MAX_JSON_MEMBERS) + b"]", 422, "valid dictionary"),
        (b"[" + b",".join([b"1"] * (MAX_JSON_MEMBERS + 1)) + b"]", 400, f"more than {MAX_JSON_MEMBERS} members"),
        (b"[" * 100_000, 400, "more than"),
        (unknown_keys(50), 422, "Extra inputs are not permitted"),
        (unknown_keys(500), 422, "Extra inputs are not permitted"),
        (unknown_keys(5000), 422, "There are 5000 faults, which are too many to list."),
        (("[" * 65 + "]" * 65).encode("utf-16"), 400, "deeper than"),
        (b'{"email": "' + b"[" * 20_000 + b'"}', 422, "at most 254 characters"),
        (b'{"email": "\\"' + b"[" * 20_000 + b'"}', 422, "at most 254 characters"),
    ],
)
async def test_json__at_its_bounds__is_read_and_beyond_them_refused(
    body: bytes, status: int, words: str, own_way: bool, root: ASGIApp, writer_token: Header
) -> None:
    headers = [writer_token, JSON, *([] if own_way else [(b"idempotency-key", b"k")])]
    answer = await ask(root, "POST", "/api/v1/users", headers, body=body)

    assert answer.status == status, answer.body[:500]
    assert words in answer.body.decode()


async def test_json__a_name_of_a_megabyte__is_not_repeated(root: ASGIApp, writer_token: Header) -> None:
    body = json.dumps({"email": "a@example.com", "k" * MB: 1, "é" * 900: 2, "short": 3}).encode()
    answer = await ask(root, "POST", "/api/v1/users", [writer_token, JSON], body=body)

    assert sorted(error["pointer"] for error in answer.problem["errors"]) == ["#", "#", "#/short"]


async def test_json__commas_and_brackets_in_a_text__are_no_members(root: ASGIApp, writer_token: Header) -> None:
    name = "[{,}]" * 30
    body = json.dumps({"email": "comma@example.com", "display_name": name}).encode()

    answer = await ask(root, "POST", "/api/v1/users", [writer_token, JSON], body=body)

    assert (answer.status, json.loads(answer.body)["display_name"]) == (201, name)


# Rows of a file


def lines(*rows: bytes) -> bytes:
    return b"\n".join(rows) + b"\n"


FILES: dict[str, tuple[bytes, bytes]] = {
    "a line of 5 MB": (b"application/jsonl", b'{"email": "' + b"x" * 5_000_000),
    "100,000 keys in one row": (b"application/jsonl", unknown_keys(100_000)),
    "5,000 keys in each row": (b"application/jsonl", lines(*[unknown_keys(5000)] * 40)),
    "900 keys in each row": (b"application/jsonl", lines(*[unknown_keys(900)] * 40)),
    "deep": (b"application/jsonl", lines(*[b"[" * 60_000] * 20)),
    "deep within": (b"application/jsonl", lines(*[b'{"a":' + b"[" * 150 + b"]" * 150 + b"}"] * 9000)),
    "empty lines": (b"application/jsonl", b"\n" * 5_000_000),
    "lines of spaces": (b"application/jsonl", b" \r\n" * 1_000_000),
    "small rows": (b"application/jsonl", b"1\n" * 1_000_000),
    "cells": (b"text/csv", b"email\n" + b"," * 60_000),
    "names": (b"text/csv", b"," * 60_000),
    "an open quotation": (b"text/csv", b'email\n"' + b"\n" * 1_000_000),
    "quotation marks": (b"text/csv", b"email\n" + b'"' * 60_000),
}


@pytest.mark.parametrize("name", FILES)
async def test_rows__whatever_is_sent__cost_little_and_are_refused_in_few_words(
    name: str, root: ASGIApp, writer_token: Header
) -> None:
    media_type, body = FILES[name]
    headers = [writer_token, (b"content-type", media_type)]
    answer = await cheapest(root, "POST", "/api/v1/users/import", headers, body=body, size=len(body))

    assert answer.status == (200 if name in {"empty lines", "lines of spaces"} else 422), answer.body[:300]
    assert len(answer.body) < 200 * KB


# Who asks is asked first

LARGE = unknown_keys(300_000)


@pytest.fixture
def reader_token(alice: User, issue_token: IssueToken) -> Header:
    return b"authorization", f"Bearer {issue_token(alice, 'users:read')}".encode()


ROUTES: list[tuple[str, str, Sequence[Header]]] = [
    ("POST", "/api/v1/users", [JSON]),
    ("POST", "/api/v1/users", [JSON, (b"idempotency-key", b"k")]),
    ("POST", "/api/v1/users", [(b"content-type", b"application/vnd.a+json")]),
    ("POST", "/api/v1/users", []),
    ("PATCH", "/api/v1/users/1", [JSON]),
    ("PATCH", "/api/v1/users/nonsense", [JSON]),
    ("POST", "/api/v1/users/import", [(b"content-type", b"application/jsonl")]),
    ("POST", "/api/v1/users/import", [(b"content-type", b"image/png")]),
    ("DELETE", "/api/v1/users/nonsense", []),
]


@pytest.mark.parametrize("body", [LARGE, b"{", b"not JSON"], ids=["large", "cut", "none"])
@pytest.mark.parametrize(("method", "path", "headers"), ROUTES)
async def test_body__of_nobody_or_of_who_may_not__is_not_even_read(
    method: str, path: str, headers: Sequence[Header], body: bytes, root: ASGIApp, reader_token: Header
) -> None:
    anonymous = await cheapest(root, method, path, headers, body=body, size=1)
    forged = await ask(root, method, path, [*headers, (b"authorization", b"Bearer a.b.c")], body=body)
    too_little = await cheapest(root, method, path, [*headers, reader_token], body=body, size=1)

    assert [anonymous.status, forged.status, too_little.status] == [401, 401, 403]
    assert [anonymous.read, forged.read, too_little.read] == [0, 0, 0]
    assert dict(anonymous.headers)[b"www-authenticate"].startswith(b"Bearer ")


# What Django reads


@pytest.mark.parametrize("path", ["/o/token/", "/accounts/login/"])
async def test_form__of_many_fields__is_refused(path: str, root: ASGIApp) -> None:
    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    answer = await ask(root, "POST", path, headers, body=b"a=1&" * 10_000)

    assert answer.status in {400, 403}, "refused, or without a CSRF token not even read"
