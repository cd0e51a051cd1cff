"""Rate limits: per caller and per address, in one process or in several that share a Redis."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
import pytest_asyncio
from asgi_lifespan import LifespanManager
from pydantic import SecretStr

from asgi import app
from fastapi_app.core import rate_limits, redis, resources
from fastapi_app.core.rate_limits import Limit, MemoryCounter, SharedCounter, limits_of, rate_limited
from fastapi_app.core.redis import SharedRedis, open_redis
from project.accounts.models import User
from project.config import config
from project.networks import network
from tests.asgi.server import serving
from tests.fixtures import IssueToken, absent, assert_problem, bearer

AGE_S = 10**9
"""A window that does not end during a test."""
REDIS_URL = "redis://127.0.0.1:6379/9"
DEAD_REDIS_URL = "redis://127.0.0.1:1/0"
LIMIT = Limit("principal", 3, AGE_S)


@pytest_asyncio.fixture
async def limited(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the whole app, which lets a caller ask three times and an address five."""
    small = {"address": Limit("address", 5, AGE_S), "principal": LIMIT}
    monkeypatch.setattr(resources, "limits_of", lambda _config: small)
    async with LifespanManager(app, startup_timeout=60, shutdown_timeout=60) as manager:
        transport = httpx2.ASGITransport(manager.app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            yield client


def left(answer: httpx2.Response) -> dict[str, int]:
    """What ``RateLimit`` says is left, by policy."""
    items = (item.split(";") for item in answer.headers["ratelimit"].split(", "))
    return {name.strip('"'): int(remaining.removeprefix("r=")) for name, remaining, _reset in items}


@pytest.mark.asyncio
async def test_caller__asks_more_than_allowed__is_told_when_to_come_back(
    limited: httpx2.AsyncClient, alice: User, issue_token: IssueToken
) -> None:
    # Two tokens, one caller.
    tokens = [bearer(issue_token(alice, *scopes)) for scopes in ((), ("users:read",))]
    answers = [await limited.get("/api/v1/users/me", headers=tokens[number % 2]) for number in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [left(answer) for answer in answers] == [
        {"address": 4, "principal": 2},
        {"address": 3, "principal": 1},
        {"address": 2, "principal": 0},
        {"address": 1, "principal": 0},
    ]
    assert_problem(answers[-1], 429)
    assert 0 < int(answers[-1].headers["retry-after"]) <= AGE_S
    assert answers[0].headers["ratelimit-policy"] == f'"address";q=5;w={AGE_S}, "principal";q=3;w={AGE_S}'


@pytest.mark.asyncio
async def test_caller__at_the_limit__leaves_the_others_theirs(
    limited: httpx2.AsyncClient, alice: User, bob: User, issue_token: IssueToken
) -> None:
    for _ in range(4):
        await limited.get("/api/v1/users/me", headers=bearer(issue_token(alice)))

    assert (await limited.get("/api/v1/users/me", headers=bearer(issue_token(bob)))).status_code == 200


@pytest.mark.asyncio
async def test_address__asks_with_bad_tokens_or_none__is_refused_before_anything_is_looked_at(
    limited: httpx2.AsyncClient,
) -> None:
    answers = [await limited.get("/api/v1/users/me", headers=bearer("nonsense")) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [401] * 5
    assert [left(answer) for answer in answers] == [{"address": number} for number in (4, 3, 2, 1, 0)]

    for path in ("/api/v1/users/me", "/api/nowhere", "/api/openapi.json"):
        refused = await limited.get(path)
        assert "address" in assert_problem(refused, 429)["detail"]
        assert refused.headers["retry-after"]
    assert (await limited.get("/healthz")).status_code == 200, "only the API is limited"


@pytest.mark.asyncio
async def test_caller__holds_its_body_back_over_the_end_of_the_window__counts_in_the_one_before(
    limited: httpx2.AsyncClient, alice: User, issue_token: IssueToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = AGE_S - 1
    monkeypatch.setattr(rate_limits, "time", SimpleNamespace(time=lambda: now))
    headers = bearer(issue_token(alice, "users:write"))
    counted, go_on = asyncio.Event(), asyncio.Event()
    count_principal = rate_limits.Usage.count_principal

    def count_and_say_so(usage: rate_limits.Usage, name: str) -> None:
        count_principal(usage, name)
        counted.set()

    monkeypatch.setattr(rate_limits.Usage, "count_principal", count_and_say_so)

    async def slow() -> AsyncIterator[bytes]:
        await go_on.wait()
        yield b'{"email": "slow@example.com"}'

    held = asyncio.create_task(
        limited.post("/api/v1/users", content=slow(), headers=headers | {"content-type": "application/json"})
    )
    await counted.wait()
    now = AGE_S + 10
    answers = [await limited.get("/api/v1/users/me", headers=headers) for _ in range(2)]
    go_on.set()
    answers += [await held, await limited.get("/api/v1/users/me", headers=headers)]

    assert [answer.status_code for answer in answers] == [200, 200, 201, 200]
    assert [left(answer)["principal"] for answer in answers] == [2, 1, 2, 0]
    assert answers[2].headers["ratelimit"] == '"address";r=4;t=1, "principal";r=2;t=1'


@pytest.mark.asyncio
async def test_defaults__are_generous_and_told(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/api/v1/users/me")

    assert answer.headers["ratelimit-policy"] == '"address";q=12000;w=60, "principal";q=6000;w=60'


def test_limits__switched_off__are_not_there() -> None:
    off = config.model_copy(update={"rate_limit_address": "0", "rate_limit_principal": "0"})

    assert limits_of(off) == {}
    assert rate_limited(off) == []
    assert len(rate_limited(off.model_copy(update={"rate_limit_principal": "1 per 2 minutes"}))) == 1


@pytest.mark.parametrize(
    ("host", "whose"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("192.0.2.7:443", "unknown"),
        ("", "unknown"),
    ],
)
def test_address__of_ipv6__stands_for_its_network(host: str, whose: str) -> None:
    assert network(host) == whose


def test_memory__counts_each_in_its_window_and_forgets_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = MemoryCounter()
    assert [counter.count(LIMIT, who, 1) for who in ("a", "a", "b", "a")] == [1, 2, 1, 3]
    assert [counter.count(LIMIT, who, 2) for who in ("a", "b")] == [1, 1]
    assert counter.count(Limit("address", 1, 1), "a", 2) == 1

    monkeypatch.setattr(MemoryCounter, "MOST_COUNTED", 2)
    assert [counter.count(LIMIT, who, 2) for who in ("c", "c", "a")] == [1, 1, 2], "a flood of names takes no memory"


# With Redis


async def shared_redis(url: str) -> AsyncIterator[SharedRedis]:
    async with open_redis(config.model_copy(update={"redis_url": SecretStr(url)})) as opened:
        yield opened


@pytest_asyncio.fixture
async def live_redis() -> AsyncIterator[SharedRedis]:
    async for opened in shared_redis(REDIS_URL):
        if not await opened.answers():
            absent("no Redis at 127.0.0.1:6379")
        yield opened


@pytest.mark.asyncio
async def test_shared__two_processes__know_of_each_other_once_they_have_told(live_redis: SharedRedis) -> None:
    one, two, whose = SharedCounter(live_redis), SharedCounter(live_redis), secrets.token_hex(8)
    limit, window = Limit("principal", 3, 3600), int(time.time()) // 3600

    assert [counter.count(limit, whose, window) for counter in (one, one, two)] == [1, 2, 1]
    await one.share()
    await two.share()
    assert two.count(limit, whose, window) == 4
    await two.share()
    one.count(limit, whose, window)
    await one.share()
    assert one.count(limit, whose, window) == 6
    assert two.count(limit, whose, window) == 5, "it has not told since, so was not told"


@pytest.mark.asyncio
async def test_shared__redis_is_dead__counts_alone_and_tells_later(
    live_redis: SharedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter, whose = SharedCounter(live_redis), secrets.token_hex(8)
    limit, window = Limit("principal", 3, 3600), int(time.time()) // 3600
    with monkeypatch.context() as outage:
        outage.setattr(counter._storage, "incr", _refuse)
        assert [counter.count(limit, whose, window) for _ in range(3)] == [1, 2, 3]
        await counter.share()
        assert counter.count(limit, whose, window) == 4

    monkeypatch.setattr(redis, "RETRY_AFTER_S", 0)
    live_redis._try_again_at = 0
    await counter.share()
    other = SharedCounter(live_redis)
    other.count(limit, whose, window)
    await other.share()
    assert other.count(limit, whose, window) == 6, "what was counted in the outage is not lost"


async def _refuse(*_arguments: object) -> int:
    raise ConnectionRefusedError("no")


@pytest.mark.asyncio
async def test_redis__outage__is_asked_seldom_and_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "fastapi_app.core.redis")
    asked = 0

    async def refuse() -> int:
        nonlocal asked
        asked += 1
        raise ConnectionRefusedError("nobody there")

    def answer() -> Awaitable[int]:
        return asyncio.sleep(0, 7)

    async for dead in shared_redis(DEAD_REDIS_URL):
        assert [await dead.ask(refuse) for _ in range(5)] == [None] * 5
        assert asked == 0, "start-up has asked just now"
        monkeypatch.setattr(redis, "RETRY_AFTER_S", 0)
        dead._try_again_at = 0
        assert [await dead.ask(refuse) for _ in range(2)] == [None] * 2
        assert await dead.ask(answer) == 7
        assert await dead.ask(refuse) is None

    assert [record.message.partition(",")[0] for record in caplog.records] == [
        "Redis does not answer",
        "Redis answers again",
        "Redis does not answer",
    ]


def test_server__redis_is_dead__serves_and_says_so(
    alice: User, issue_token: IssueToken, database: str, tmp_path: Path
) -> None:
    env = {"DATABASE_URL": database, "REDIS_URL": DEAD_REDIS_URL}
    with serving(tmp_path / "log", env=env) as server, server.client() as client:
        answers = [client.get("/api/v1/users/me", headers=bearer(issue_token(alice))) for _ in range(5)]
        time.sleep(3 * SharedCounter.SHARE_EVERY_S)
        ready = client.get("/readyz")
        server.terminate()

    assert [answer.status_code for answer in answers] == [200] * 5
    assert left(answers[-1]) == {"address": 11995, "principal": 5995}
    assert (ready.status_code, ready.json()["status"], ready.json()["checks"]["rate_limits"]) == (
        200,
        "degraded",
        "failed",
    )
    assert server.log.count("Redis does not answer, ") == 1


def test_servers__with_a_redis__count_together(issue_token: IssueToken, database: str, tmp_path: Path) -> None:
    async def is_there() -> bool:
        async for opened in shared_redis(REDIS_URL):
            return await opened.answers()
        return False

    if not asyncio.run(is_there()):
        absent("no Redis at 127.0.0.1:6379")
    # Redis remembers for a day what users of other runs did.
    somebody = User.objects.create_user("somebody@example.com", id=2**40 + secrets.randbelow(2**40))
    env = {"DATABASE_URL": database, "REDIS_URL": REDIS_URL, "RATE_LIMIT_PRINCIPAL": "6/day"}
    with (
        serving(tmp_path / "one", env=env) as one,
        serving(tmp_path / "two", env=env) as two,
        one.client() as ask_one,
        two.client() as ask_two,
    ):
        statuses = []
        for client in (ask_one, ask_two) * 5:
            statuses.append(client.get("/api/v1/users/me", headers=bearer(issue_token(somebody))).status_code)
            time.sleep(3 * SharedCounter.SHARE_EVERY_S)
        ready = ask_one.get("/readyz").json()

    assert ready["checks"]["rate_limits"] == "ok"
    # Each is told of the other when it tells: it lets one request through before it knows.
    assert statuses[:6] == [200] * 6
    assert set(statuses[-2:]) == {429}
