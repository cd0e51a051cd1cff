"""What happens to requests that are slow, abandoned, numerous or unlucky, over real sockets."""

import asyncio
import json
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import psycopg
import pytest
import websockets.sync.client
from websockets.exceptions import InvalidStatus

from project.accounts.models import User
from project.config import config
from project.database import close_pools
from tests.asgi.server import PATIENCE_S, Server, serving
from tests.fixtures import IssueToken, bearer


def second_connection(query: str) -> list[tuple[object, ...]]:
    """What a connection that is nobody else's sees."""
    if config.is_sqlite:
        with closing(sqlite3.connect(config.database.removeprefix("sqlite:///"))) as connection:
            return connection.execute(query).fetchall()
    with psycopg.connect(config.database, autocommit=True) as connection:
        return connection.execute(query).fetchall()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def in_parallel(server: Server, *paths: str) -> list[httpx2.Response]:
    async def get_all() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
            return await asyncio.gather(*(client.get(path) for path in paths))

    return asyncio.run(get_all())


# Websockets


@pytest.mark.parametrize("path", ["/", "/admin/", "/api/v1/users", "/healthz"])
def test_websocket__anywhere__is_refused_without_an_error(path: str, server: Server, database: str) -> None:
    with (
        pytest.raises(InvalidStatus) as refusal,
        websockets.sync.client.connect(f"ws://127.0.0.1:{server.port}{path}", proxy=None),
    ):
        pass

    assert refusal.value.response.status_code == 403
    assert "Traceback" not in server.log


# The deadline


def test_deadline__a_slow_route__is_a_504_problem(server: Server, database: str) -> None:
    answer = httpx2.get(f"{server.url}/api/test/sleep?seconds=60", timeout=PATIENCE_S)

    assert answer.status_code == 504
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "No answer within 3 s."
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.postgresql
def test_deadline__django_requests_time_out__the_pool_stays_whole(server: Server, database: str) -> None:
    """Four requests, more than Django's pool has connections, are cut off while the database works."""
    late = in_parallel(server, *["/test/sleep-in-database?seconds=4"] * 4)
    assert [answer.status_code for answer in late] == [504] * 4
    assert late[0].headers["content-type"].startswith("text/plain")

    # Their threads work on to the end of their queries. Then two at once, three times over, would wait for ever if
    # one connection had been lost.
    def two_at_once() -> list[int]:
        return [answer.status_code for answer in in_parallel(server, *["/test/sleep-in-database?seconds=0.1"] * 2)]

    until(lambda: two_at_once() == [200] * 2)
    assert [two_at_once() for _ in range(3)] == [[200] * 2] * 3


# DjangoThread


def test_django_thread__parallel_calls_from_the_api__do_not_wait_for_each_other(server: Server, database: str) -> None:
    began = time.monotonic()
    answers = in_parallel(server, *["/api/test/django-sleep?seconds=1"] * 6)

    assert [answer.status_code for answer in answers] == [200] * 6
    assert time.monotonic() - began < 4, "one shared thread would have taken 6 s"


@pytest.mark.postgresql
def test_django_thread__a_backend_is_killed__both_mounts_answer_again(server: Server, database: str) -> None:
    with server.client() as client:
        for path in ("/api/test/backend-pid", "/test/backend-pid"):
            pid = int(client.get(path).text)
            second_connection(f"select pg_terminate_backend({pid}, 5000)")
            assert [client.get(path).status_code for _ in range(4)] == [200] * 4, path


@pytest.mark.postgresql
def test_session__a_backend_is_killed__the_api_answers_again(
    server: Server, alice: User, issue_token: IssueToken
) -> None:
    token = bearer(issue_token(alice, "users:read"))
    with server.client() as client:
        assert client.get("/api/v1/users", headers=token).status_code == 200
        second_connection(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where application_name = 'tandem-api' and datname = current_database()"
        )
        assert [client.get("/api/v1/users", headers=token).status_code for _ in range(4)] == [200] * 4


@pytest.mark.postgresql
def test_django_thread__many_requests__leave_no_connection_open(server: Server, database: str) -> None:
    close_pools()  # The tests' own.
    answers = in_parallel(server, *["/test/backend-pid", "/api/test/backend-pid"] * 20)

    assert [answer.status_code for answer in answers] == [200] * 40
    open_now = (
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and application_name = 'tandem-django'"
    )
    until(lambda: second_connection(open_now)[0][0] in {1, 2, 3})  # The pool's size is 3.
    until(lambda: second_connection(f"{open_now} and state <> 'idle'") == [(0,)])


# Transactions and responses


def send_and_hang_up(server: Server, request: str) -> None:
    seen = server.log.count("request began")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request.encode())
        until(lambda: server.log.count("request began") > seen)


def test_disconnect__in_mid_request__rolls_back_and_returns_the_connection(server: Server, database: str) -> None:
    """Four clients leave, twice as many as the API's pool has connections; the route would have written after 2 s."""
    for number in range(4):
        path = f"/api/test/write-then-sleep?email=gone{number}@example.com&seconds=2"
        send_and_hang_up(server, f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")
    until(lambda: server.log.count("the client has gone, cancelled") >= 4)

    answer = httpx2.post(
        f"{server.url}/api/test/write-then-sleep?email=stayed@example.com&seconds=0", timeout=PATIENCE_S
    )
    assert answer.status_code == 200
    time.sleep(2.5)
    assert second_connection("select email from accounts_user where email like '%gone%' or email like 'stayed%'") == [
        ("stayed@example.com",)
    ]


def test_disconnect__in_mid_body__writes_nothing_and_serves_on(
    server: Server, alice: User, issue_token: IssueToken
) -> None:
    token = issue_token(alice, "users:write")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"POST /api/v1/users HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        body = json.dumps({"email": "half@example.com"})
        connection.sendall(
            f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body[:10]}".encode()
        )
        time.sleep(0.2)

    assert httpx2.get(f"{server.url}/readyz", timeout=PATIENCE_S).status_code == 200
    assert second_connection("select count(*) from accounts_user where email = 'half@example.com'") == [(0,)]
    assert "Traceback" not in server.log


@contextmanager
def slow_commit_in_postgresql(seconds: float) -> Iterator[None]:
    """A deferred trigger runs at COMMIT. On SQLite the server itself delays it (tests/asgi/apps.py)."""
    if config.is_sqlite:
        yield
        return
    with psycopg.connect(config.database, autocommit=True) as connection:
        connection.execute(
            "create function slow_commit() returns trigger language plpgsql as"
            f" $$ begin perform pg_sleep({seconds}); return null; end $$;"
            " create constraint trigger slow_commit after insert on accounts_user"
            " deferrable initially deferred for each row execute function slow_commit()"
        )
        try:
            yield
        finally:
            connection.execute("drop trigger slow_commit on accounts_user; drop function slow_commit()")


def test_commit__slow__is_visible_to_others_when_the_response_arrives(
    alice: User, issue_token: IssueToken, tmp_path: Path
) -> None:
    token = bearer(issue_token(alice, "users:write"))
    env = {"COMMIT_DELAY_S": "0.5"}
    with serving(tmp_path / "log", app="tests.asgi.apps:app", env=env) as server, slow_commit_in_postgresql(0.5):
        began = time.monotonic()
        answer = httpx2.post(
            f"{server.url}/api/v1/users", headers=token, json={"email": "new@example.com"}, timeout=PATIENCE_S
        )
        seen = second_connection("select count(*) from accounts_user where email = 'new@example.com'")

    assert answer.status_code == 201
    assert time.monotonic() - began >= 0.5, "the commit was slow"
    assert seen == [(1,)]


def test_commit__fails__is_an_error_response_and_never_a_201(server: Server, database: str) -> None:
    answer = httpx2.post(f"{server.url}/api/test/commit-fails", timeout=PATIENCE_S)

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert second_connection("select count(*) from accounts_user_groups") == [(0,)]


def test_error__of_ours__leaks_nothing_and_gives_the_request_id(server: Server, database: str) -> None:
    answer = httpx2.get(f"{server.url}/api/test/boom", headers={"x-request-id": "find-me-in-the-log"})

    assert answer.status_code == 500
    assert answer.json() == {
        "type": "http://127.0.0.1:8000/api/problems/internal-error",
        "title": "Internal error",
        "status": 500,
        "detail": "This is our fault. Report it with the request_id, which our log has too.",
        "request_id": "find-me-in-the-log",
    }
    server.until_logged(r"\[find-me-in-the-log\] project.server_errors: GET '/api/test/boom': an unexpected error")
    server.until_logged("LookupError: the secret is 42")


def test_create_user__a_hundred_at_once_for_one_address__exactly_one_wins(
    server: Server, alice: User, issue_token: IssueToken
) -> None:
    token = bearer(issue_token(alice, "users:write"))

    async def post_all() -> list[int]:
        limits = httpx2.Limits(max_connections=100)
        async with httpx2.AsyncClient(base_url=server.url, timeout=PATIENCE_S, limits=limits) as client:
            spellings = ("one@example.com", "One@Example.com", "ONE@EXAMPLE.COM", "one@EXAMPLE.com")
            posts = (
                client.post("/api/v1/users", headers=token, json={"email": spellings[number % 4]})
                for number in range(100)
            )
            return [answer.status_code for answer in await asyncio.gather(*posts)]

    statuses = asyncio.run(post_all())

    assert sorted(statuses) == [201] + [409] * 99
    assert second_connection("select count(*) from accounts_user where lower(email) = 'one@example.com'") == [(1,)]


@pytest.mark.postgresql
def test_database__too_busy_for_longer_than_the_wait__is_a_503_that_says_when_to_retry(
    alice: User, issue_token: IssueToken, tmp_path: Path
) -> None:
    """The only connection is taken by a request that sleeps in its transaction for 2 s; the wait limit is 0.5 s."""

    async def crowd(server: Server) -> httpx2.Response:
        async with httpx2.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
            path = "/api/test/write-then-sleep?seconds=2&email=sleeper@example.com"
            sleeper = asyncio.create_task(client.post(path))
            await asyncio.to_thread(server.until_logged, "request began")
            answer = await client.get("/api/v1/users", headers=bearer(issue_token(alice, "users:read")))
            assert (await sleeper).status_code == 200
            return answer

    with serving(
        tmp_path / "log", app="tests.asgi.apps:app", env={"API_POOL_SIZE": "1", "DATABASE_WAIT_S": "0.5"}
    ) as server:
        answer = asyncio.run(crowd(server))

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["content-type"] == "application/problem+json"
