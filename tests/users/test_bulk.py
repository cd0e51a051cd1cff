"""Users by the file: in, all or none; out, all of them."""

import csv
import io
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest
from django.db import connection

from fastapi_app.core.rows import MAXIMUM_COLUMNS, MAXIMUM_ERRORS, MAXIMUM_LINE_BYTES
from project.accounts.models import User
from project.config import config
from tests.asgi.server import Server, serving
from tests.fixtures import IssueToken, assert_problem, bearer
from tests.postgresql import SERVER_URL

JSONL, CSV = {"content-type": "application/jsonl"}, {"content-type": "text/csv; charset=utf-8"}
MANY = 100_000


def faults(problem: dict[str, Any]) -> list[tuple[int, str | None]]:
    return [(error["line"], error.get("pointer")) for error in problem["errors"]]


# Import


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"email": "A@example.com", "display_name": "A, \\"a\\""}\r\n\n{"email": "b@example.com"}', JSONL),
        (b'\xef\xbb\xbf{"email": "a@example.com", "display_name": "A, \\"a\\""}\n{"email": "b@example.com"}\n',
         {"content-type": "Application/X-NDJSON"}),
        (b'email,display_name\r\na@example.com,"A, ""a"""\r\n\r\nb@example.com,\r\n', CSV),
        (b'\xef\xbb\xbfdisplay_name,email\n"A, ""a""",a@example.com\n"",b@example.com', CSV),
    ],
)  # fmt: skip
async def test_import__in_each_form__creates_users(
    body: bytes, headers: dict[str, str], writer: httpx2.AsyncClient
) -> None:
    answer = await writer.post("/api/v1/users/import", content=body, headers=headers)

    assert answer.status_code == 200, answer.text
    assert answer.json() == {"created": 2}
    users = {user.email: user async for user in User.objects.filter(email__in=["a@example.com", "b@example.com"])}
    assert users["a@example.com"].display_name == 'A, "a"'
    assert users["b@example.com"].display_name == ""
    assert not users["a@example.com"].has_usable_password()


@pytest.mark.asyncio
async def test_import__of_wrong_rows__names_each_line_and_saves_nothing(writer: httpx2.AsyncClient) -> None:
    rows = [
        '{"email": "one@example.com"}',
        '{"email": "nobody"}',
        "",
        '{"email": "ALICE@example.com"}',
        '{"email": "One@example.com", "display_name": "twice"}',
        "{not json",
        '["a", "list"]',
        '{"email": "two@example.com", "is_staff": true, "display_name": 7}',
        '{"email": "one@example.com"}',
    ]

    problem = assert_problem(
        await writer.post("/api/v1/users/import", content="\n".join(rows).encode(), headers=JSONL), 422
    )

    assert faults(problem) == [
        (2, "#/email"),
        (4, "#/email"),
        (5, "#/email"),
        (6, "#"),
        (7, "#"),
        (8, "#/display_name"),
        (8, "#/is_staff"),
        (9, "#/email"),
    ]
    details = {error["line"]: error["detail"] for error in problem["errors"]}
    assert details[4] == "A user with this e-mail address exists already."
    assert details[5] == details[9] == "Line 1 has the same e-mail address."
    assert not await User.objects.filter(email="one@example.com").aexists()


@pytest.mark.asyncio
async def test_import__of_wrong_csv__names_each_line(writer: httpx2.AsyncClient) -> None:
    body = (
        b"email,display_name\n"
        b"one@example.com\n"
        b'two@example.com,"over\n'
        b'two lines"\n'
        b"three@example.com,\xff\n"
        b'"four"@example.com,x\n'
        b"alice@example.com,A\n"
    )

    problem = assert_problem(await writer.post("/api/v1/users/import", content=body, headers=CSV), 422)

    assert faults(problem) == [(2, None), (3, "#/display_name"), (5, None), (6, None), (7, "#/email")]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "headers", "lines"),
    [
        (b"", CSV, [1]),
        (b"email,email\na@example.com,a@example.com\n", CSV, [1]),
        (b"email,role\na@example.com,x\n", CSV, [2]),
        (",".join(f"c{number}" for number in range(MAXIMUM_COLUMNS + 1)).encode() + b"\nx\n", CSV, [1]),
        (b'email\na@example.com\n"never closed\n', CSV, [3]),
        (b'{"email": "' + b"x" * MAXIMUM_LINE_BYTES + b'"}', JSONL, [1]),
        (b"nonsense\n" * (MAXIMUM_ERRORS + 1), JSONL, list(range(1, MAXIMUM_ERRORS + 1))),
    ],
)
async def test_import__of_what_is_no_such_file__says_where(
    body: bytes, headers: dict[str, str], lines: list[int], writer: httpx2.AsyncClient
) -> None:
    problem = assert_problem(await writer.post("/api/v1/users/import", content=body, headers=headers), 422)

    assert [error["line"] for error in problem["errors"]] == lines


@pytest.mark.asyncio
async def test_import__of_more_wrong_rows_than_are_told__tells_of_the_first_by_line(
    writer: httpx2.AsyncClient,
) -> None:
    rows = [b"email", b"one@example.com", b"one@example.com", b"alice@example.com", *[b"nobody"] * 2 * MAXIMUM_ERRORS]

    problem = assert_problem(
        await writer.post("/api/v1/users/import", content=b"\n".join(rows + rows[1:]), headers=CSV), 422
    )

    assert [error["line"] for error in problem["errors"]] == list(range(3, MAXIMUM_ERRORS + 3))
    details = [error["detail"] for error in problem["errors"][:2]]
    assert details == ["Line 2 has the same e-mail address.", "A user with this e-mail address exists already."]


@pytest.mark.asyncio
async def test_import__of_as_many_as_allowed__is_taken_and_of_one_more_refused(writer: httpx2.AsyncClient) -> None:
    rows = [b'{"email": "user%d@example.com"}\n' % number for number in range(10_001)]

    problem = assert_problem(await writer.post("/api/v1/users/import", content=b"".join(rows), headers=JSONL), 422)
    assert faults(problem) == [(10_001, None)]
    assert not await User.objects.filter(email="user0@example.com").aexists()

    answer = await writer.post("/api/v1/users/import", content=b"".join(rows[:-1]), headers=JSONL)
    assert answer.json() == {"created": 10_000}
    assert await User.objects.filter(email__startswith="user").acount() == 10_000


@pytest.mark.asyncio
async def test_import__larger_than_other_bodies_may_be__is_read_up_to_its_own_limit(
    writer: httpx2.AsyncClient,
) -> None:
    padded = b'{"email": "a@example.com"}' + (b" " * 1000 + b"\n") * (config.max_body_bytes // 1000 + 1)
    assert len(padded) > config.max_body_bytes
    assert (await writer.post("/api/v1/users/import", content=padded, headers=JSONL)).status_code == 200

    async def too_much() -> Any:
        for _ in range(config.max_import_bytes // 1000 + 1):
            yield b" " * 999 + b"\n"

    assert_problem(await writer.post("/api/v1/users/import", content=too_much(), headers=JSONL), 413)
    assert_problem(await writer.post("/api/v1/users", content=padded, headers=JSONL), 413)


@pytest.mark.asyncio
async def test_import__by_whom_or_of_what_is_not_taken__reads_nothing(
    client: httpx2.AsyncClient, alice: User, issue_token: IssueToken
) -> None:
    path, body = "/api/v1/users/import", b'{"email": "a@example.com"}'
    writes = bearer(issue_token(alice, "users:write"))

    assert_problem(await client.post(path, content=body, headers=JSONL), 401)
    assert_problem(await client.post(path, content=body, headers=JSONL | bearer(issue_token(alice, "users:read"))), 403)
    for wrong in ({}, {"content-type": "application/json"}, {"content-type": "text/plain"}):
        assert_problem(await client.post(path, content=body, headers=wrong | writes), 415)
    assert not await User.objects.filter(email="a@example.com").aexists()


# Export

NAMES = ["plain", "=1+1", "'=1+1", "+1", "-1", "@x", "'t Hooft", 'with "quotes", and commas', "é"]


@pytest.mark.asyncio
async def test_export__in_each_form__is_every_user_by_id(reader: httpx2.AsyncClient, bob: User) -> None:
    for number, name in enumerate(NAMES):
        await User(email=f"{number}@example.com", display_name=name).asave()
    listed = (await reader.get("/api/v1/users?limit=200")).json()["items"]

    lines = await reader.get("/api/v1/users/export")
    table = await reader.get("/api/v1/users/export", headers={"accept": "text/csv"})

    assert lines.headers["content-type"] == "application/jsonl"
    assert lines.headers["content-disposition"] == 'attachment; filename="users.jsonl"'
    assert [json.loads(line) for line in lines.text.splitlines()] == listed
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["email"] for row in rows] == [user["email"] for user in listed]
    shown = {row["display_name"] for row in rows}
    assert {"plain", "'=1+1", "''=1+1", "'+1", "'-1", "'@x", "'t Hooft", 'with "quotes", and commas', "é"} <= shown
    assert {row["is_active"] for row in rows} == {"true"}


@pytest.mark.asyncio
async def test_export__imported_again__is_the_same(writer: httpx2.AsyncClient) -> None:
    for number, name in enumerate(NAMES):
        await User(email=f"{number}@example.com", display_name=name).asave()
    exported = list(csv.DictReader(io.StringIO((await writer.get("/api/v1/users/export?format=csv")).text, newline="")))
    ours = [row for row in exported if row["email"][0].isdigit()]
    text = io.StringIO(newline="")
    out = csv.DictWriter(text, ["email", "display_name"], extrasaction="ignore")
    out.writeheader()
    out.writerows(ours)
    await User.objects.filter(email__in=[row["email"] for row in ours]).adelete()

    answer = await writer.post("/api/v1/users/import", content=text.getvalue().encode(), headers=CSV)

    assert answer.status_code == 200, answer.text
    names = {user.email: user.display_name async for user in User.objects.all()}
    assert [names[f"{number}@example.com"] for number in range(len(NAMES))] == NAMES


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/jsonl"),
        ("text/*", "text/csv"),
        ("application/json, text/csv;q=0.5, application/x-ndjson;q=0.1", "text/csv"),
        ("text/csv;q=0, */*", "application/jsonl"),
        ("text/html", None),
        ("text/csv;q=0", None),
        ("text/csv;q=x", "text/csv"),
    ],
)
async def test_export__accept__is_obeyed(accept: str, media_type: str | None, reader: httpx2.AsyncClient) -> None:
    answer = await reader.get("/api/v1/users/export", headers={"accept": accept})

    if media_type is None:
        assert_problem(answer, 406)
        assert (await reader.get("/api/v1/users/export?format=csv", headers={"accept": accept})).status_code == 200
    else:
        assert answer.headers["content-type"].startswith(media_type)


@pytest.mark.asyncio
async def test_export__anonymous_wrong_scope_or_unknown_form__is_refused(
    client: httpx2.AsyncClient, alice: User, issue_token: IssueToken
) -> None:
    assert_problem(await client.get("/api/v1/users/export"), 401)
    client.headers.update(bearer(issue_token(alice, "users:write")))
    assert_problem(await client.get("/api/v1/users/export"), 403)
    client.headers.update(bearer(issue_token(alice, "users:read")))
    assert_problem(await client.get("/api/v1/users/export?format=xlsx"), 422)


# Many


@pytest.fixture
def many(alice: User) -> Iterator[None]:
    """A hundred thousand users."""
    numbers = (
        f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {MANY}) SELECT"
        " 'user' || n || '@example.com', 'A name of some length ' || n FROM numbers"
    )
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO accounts_user (email, display_name) {numbers}")
    connection.close()
    yield
    with connection.cursor() as cursor:
        # Row by row, each deletion would be an event of its own.
        cursor.execute(
            "TRUNCATE accounts_user CASCADE" if connection.vendor == "postgresql" else "DELETE FROM accounts_user"
        )


def peak_mb(server: Server) -> float:
    """The most memory that the process had so far."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert peak is not None
    return int(peak[1]) / 1024


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_export__of_many__takes_no_memory(
    form: str, many: None, alice: User, issue_token: IssueToken, database: str, tmp_path: Path
) -> None:
    headers = bearer(issue_token(alice, "users:read"))
    with serving(tmp_path / "log", env={"DATABASE_URL": database}) as server, server.client() as client:
        client.get("/api/v1/users?limit=200", headers=headers)
        before = peak_mb(server)
        size = lines = 0
        with client.stream("GET", f"/api/v1/users/export?format={form}", headers=headers) as answer:
            for chunk in answer.iter_bytes():
                size, lines = size + len(chunk), lines + chunk.count(b"\n")
        grown = peak_mb(server) - before

    assert lines >= MANY
    assert size > 10_000_000
    assert grown < 10, f"{grown} MB for {size} bytes"


@pytest.mark.postgresql
def test_export__database_goes_away_half_way__is_cut_off_and_not_ended(
    many: None, alice: User, issue_token: IssueToken, database: str, tmp_path: Path
) -> None:
    headers = bearer(issue_token(alice, "users:read"))
    name = urlsplit(database).path.removeprefix("/")

    def let_in(allow: bool) -> None:
        connection.close()
        with psycopg.connect(os.environ[SERVER_URL], autocommit=True) as admin:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {allow}')
            if not allow:
                admin.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE application_name = 'tandem-api' AND datname = %s",
                    [name],
                )

    with serving(tmp_path / "log", env={"DATABASE_URL": database}) as server, server.client() as client:
        try:
            with (
                client.stream("GET", "/api/v1/users/export", headers=headers) as answer,
                pytest.raises(httpx2.RemoteProtocolError),
            ):
                assert answer.status_code == 200
                chunks = answer.iter_raw()
                next(chunks)
                let_in(False)
                for _ in chunks:
                    pass
        finally:
            let_in(True)
        again = client.get("/api/v1/users/export", headers=headers)

    assert again.text.count("\n") >= MANY


@pytest.mark.postgresql
def test_export__client_goes_away__ends_and_leaves_the_connection_to_others(
    many: None, alice: User, issue_token: IssueToken, database: str, tmp_path: Path
) -> None:
    headers = bearer(issue_token(alice, "users:read"))
    env = {"DATABASE_URL": database, "API_POOL_SIZE": "1", "DATABASE_WAIT_S": "2"}

    def is_at_work() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tandem-api'"
                " AND query LIKE '%accounts_user%' AND query_start > clock_timestamp() - interval '0.1 s'"
            )
            return cursor.fetchone() is not None

    with serving(tmp_path / "log", env=env) as server, server.client() as client:
        for _ in range(5):
            with client.stream("GET", "/api/v1/users/export", headers=headers) as answer:
                next(answer.iter_raw())
            assert client.get("/api/v1/users/me", headers=headers).status_code == 200
        time.sleep(0.3)
        # The export of so many takes seconds, if it goes on.
        for _ in range(20):
            assert not is_at_work()
            time.sleep(0.02)
        answered = client.get("/api/v1/users/export", headers=headers)

    connection.close()
    assert answered.text.count("\n") >= MANY
