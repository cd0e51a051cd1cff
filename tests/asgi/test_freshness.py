"""Two server processes on one database: what ends a credential is felt by both, with nothing restarted."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import pytest

from project.accounts.models import User
from project.config import config
from project.identity.models import ApiKey, RevocationEvent
from tests.asgi.server import Server, serving
from tests.fixtures import IssueToken, bearer, give, machine_token, make_api_key

FELT_WITHIN_S = 3.0


@pytest.fixture(scope="module")
def servers(migrated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        logs = [tmp_path_factory.mktemp("server") / "log" for _ in range(2)]
        yield [stack.enter_context(serving(log, env={"DATABASE_URL": config.database})) for log in logs]


def statuses(servers: list[Server], headers: dict[str, str], path: str = "/api/v1/users/me") -> list[int]:
    return [httpx2.get(f"{server.url}{path}", headers=headers, timeout=30).status_code for server in servers]


def seconds_until_refused_by_both(
    servers: list[Server], headers: dict[str, str], path: str = "/api/v1/users/me"
) -> float:
    began = time.monotonic()
    while statuses(servers, headers, path) != [401, 401]:
        assert time.monotonic() - began < 30, "never refused"
        time.sleep(0.05)
    return time.monotonic() - began


def test_deactivated__through_one_process__is_felt_by_both(
    servers: list[Server], alice: User, bob: User, issue_token: IssueToken
) -> None:
    give(bob, "view_user")
    admin, token = bearer(issue_token(alice, "users:write")), bearer(issue_token(bob))
    script = bearer(make_api_key(bob, "users:read"))
    assert statuses(servers, token) == statuses(servers, script) == [200, 200]

    answer = httpx2.delete(f"{servers[0].url}/api/v1/users/{bob.pk}", headers=admin, timeout=30)

    assert answer.status_code == 204
    began = time.monotonic()
    seconds_until_refused_by_both(servers, token)
    seconds_until_refused_by_both(servers, script)
    assert time.monotonic() - began < FELT_WITHIN_S
    assert statuses(servers, admin) == [200, 200], "nobody else is"


def test_revoked__token_or_client__is_felt_by_both(servers: list[Server], alice: User, issue_token: IssueToken) -> None:
    token, machine = bearer(issue_token(alice)), bearer(machine_token("users:read"))
    assert statuses(servers, token) == statuses(servers, machine, "/api/v1/users") == [200, 200]

    RevocationEvent.objects.create(kind="user", subject=str(alice.pk), version=1)
    RevocationEvent.objects.create(kind="client", subject="a-machine")

    began = time.monotonic()
    seconds_until_refused_by_both(servers, token)
    seconds_until_refused_by_both(servers, machine, "/api/v1/users")
    assert time.monotonic() - began < FELT_WITHIN_S


def test_permission_is_taken_away__the_key_loses_its_scope(servers: list[Server], alice: User) -> None:
    give(alice, "view_user")
    script = bearer(make_api_key(alice, "users:read"))
    assert statuses(servers, script, "/api/v1/users") == [200, 200]

    alice.user_permissions.clear()
    time.sleep(FELT_WITHIN_S)

    assert statuses(servers, script, "/api/v1/users") == [403, 403]


def test_stopped__the_last_use_of_a_key_is_in_the_database(
    alice: User, tmp_path_factory: pytest.TempPathFactory
) -> None:
    key = make_api_key(alice)
    with serving(tmp_path_factory.mktemp("server") / "log", env={"DATABASE_URL": config.database}) as server:
        assert statuses([server], bearer(key)) == [200]
        assert ApiKey.objects.get().last_used_at is None, "not while the request waits"
        server.terminate()

    assert ApiKey.objects.get().last_used_at is not None
    assert "Traceback" not in server.log
