"""Two server processes on one database: what ends a credential is felt by both, with nothing restarted."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import httpx2
import pytest
from django.core.management import call_command
from django.db.models import F
from joserfc.jws import extract_compact

from project.accounts.models import User
from project.config import config
from project.identity.lifetimes import JWKS_TTL_S
from project.identity.models import ApiKey, RevocationEvent, SigningKey
from tests.asgi.server import Server, serving
from tests.fixtures import IssueToken, bearer, give, machine_token, make_api_key

FELT_WITHIN_S = 30.0
"""Ten times what is promised: processes poll every two seconds, but here they share the cores with other tests."""


@pytest.fixture(scope="module")
def servers(migrated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        logs = [tmp_path_factory.mktemp("server") / "log" for _ in range(2)]
        yield [stack.enter_context(serving(log, env={"DATABASE_URL": config.database})) for log in logs]


def statuses(servers: list[Server], headers: dict[str, str], path: str = "/api/v1/users/me") -> list[int]:
    return [httpx2.get(f"{server.url}{path}", headers=headers, timeout=30).status_code for server in servers]


def wait_until_answered(
    servers: list[Server], headers: dict[str, str], status: int, path: str = "/api/v1/users/me"
) -> None:
    """Returns once every process answers with this status; fails when that takes longer than FELT_WITHIN_S."""
    until = time.monotonic() + FELT_WITHIN_S
    while (found := statuses(servers, headers, path)) != [status] * len(servers):
        assert time.monotonic() < until, f"{found}, and not {status}"
        time.sleep(0.05)


def test_deactivated__through_one_process__is_felt_by_both(
    servers: list[Server], alice: User, bob: User, issue_token: IssueToken
) -> None:
    give(bob, "view_user")
    admin, token = bearer(issue_token(alice, "users:write")), bearer(issue_token(bob))
    script = bearer(make_api_key(bob, "users:read"))
    assert statuses(servers, token) == statuses(servers, script) == [200, 200]

    answer = httpx2.delete(f"{servers[0].url}/api/v1/users/{bob.pk}", headers=admin, timeout=30)

    assert answer.status_code == 204
    wait_until_answered(servers, token, 401)
    wait_until_answered(servers, script, 401)
    assert statuses(servers, admin) == [200, 200], "nobody else is"


def test_revoked__token_or_client__is_felt_by_both(servers: list[Server], alice: User, issue_token: IssueToken) -> None:
    token, machine = bearer(issue_token(alice)), bearer(machine_token("users:read", client_id="stopped"))
    assert statuses(servers, token) == statuses(servers, machine, "/api/v1/users") == [200, 200]

    RevocationEvent.objects.create(kind="user", subject=str(alice.pk), version=1)
    RevocationEvent.objects.create(kind="client", subject="stopped", version=2)

    wait_until_answered(servers, token, 401)
    wait_until_answered(servers, machine, 401, "/api/v1/users")


def test_key_is_rotated__both_believe_what_either_key_has_signed(
    servers: list[Server], alice: User, issue_token: IssueToken
) -> None:
    old = bearer(issue_token(alice))
    assert statuses(servers, old) == [200, 200]

    call_command("rotate_signing_key", "--algorithm", "ES256")
    SigningKey.objects.update(signs_from=F("signs_from") - timedelta(seconds=JWKS_TTL_S))  # As if that had passed.
    new = bearer(issue_token(alice))

    assert kid_of(new) != kid_of(old)
    wait_until_answered(servers, new, 200)
    assert statuses(servers, old) == [200, 200], "what the old key has signed lives on"


def test_key_is_compromised__both_refuse_what_it_has_signed_and_believe_the_next(
    servers: list[Server], alice: User, issue_token: IssueToken
) -> None:
    old, machine = bearer(issue_token(alice)), bearer(machine_token("users:read"))
    assert statuses(servers, old) == statuses(servers, machine, "/api/v1/users") == [200, 200]

    call_command("rotate_signing_key", "--compromised")
    new = bearer(issue_token(alice))

    wait_until_answered(servers, new, 200)
    wait_until_answered(servers, old, 401)
    wait_until_answered(servers, machine, 401, "/api/v1/users")


def kid_of(headers: dict[str, str]) -> str:
    return str(extract_compact(headers["Authorization"].partition(" ")[2].encode()).headers()["kid"])


def test_permission_is_taken_away__the_key_loses_its_scope(servers: list[Server], alice: User) -> None:
    give(alice, "view_user")
    script = bearer(make_api_key(alice, "users:read"))
    assert statuses(servers, script, "/api/v1/users") == [200, 200]

    alice.user_permissions.clear()

    wait_until_answered(servers, script, 403, "/api/v1/users")


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
