"""The tests' world, once the environment is set: a database, people in it, tokens, the app on its lifespan."""

import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest
import pytest_asyncio
from asgi_lifespan import LifespanManager
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connections
from django.test import override_settings
from oauth2_provider.models import get_device_grant_model

from asgi import app
from project.accounts.models import User
from project.clients.models import Client
from project.config import config
from project.idempotency.models import KeptAnswer
from project.identity.api_keys import keep, new_key
from project.identity.limits import limiter
from project.identity.models import ApiKey, RevocationEvent
from project.identity.tokens import issue_access_token
from project.identity.tokens import sign as sign_as_issuer
from tests.postgresql import SERVER_FAULT, SERVER_URL, database_on

DeviceGrant = get_device_grant_model()


def absent(reason: str) -> None:
    """Skip for want of a service, or fail where every service must be there."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """A real hash takes a third of a second, which is its purpose and not that of these tests."""
    hashers = ["django.contrib.auth.hashers.MD5PasswordHasher", "project.identity.hashers.RandomSecretHasher"]
    with override_settings(PASSWORD_HASHERS=hashers):
        yield


@pytest.fixture(autouse=True)
def fresh_limits() -> None:
    """Every test may sign in as often as the first one."""
    limiter().reset()


@pytest.fixture(scope="session")
def migrated(request: pytest.FixtureRequest) -> None:
    if fault := request.config.stash.get(SERVER_FAULT, None):
        absent(fault)
    call_command("migrate", run_syncdb=True, verbosity=0)  # The tests' own app has no migrations.
    connections.close_all()


@pytest.fixture
def database(migrated: None) -> Iterator[str]:
    """The address of a migrated database, empty again after the test."""
    yield config.database
    for model in (LogEntry, Session, Group, User, Client, DeviceGrant, KeptAnswer, RevocationEvent):
        model._default_manager.all().delete()
    connections.close_all()


@pytest.fixture
def fresh_database(migrated: None, tmp_path: Path) -> str:
    """The address of a database in which nothing has happened yet, on the vendor under test."""
    if config.is_sqlite:
        return f"sqlite:///{tmp_path}/fresh.sqlite3"
    return database_on(
        os.environ[SERVER_URL], f"tandem_fresh_{tmp_path.parent.parent.name}_{tmp_path.name}"[:63].replace("-", "_")
    )


@pytest.fixture
def alice(database: str) -> User:
    return User.objects.create_user("alice@example.com", "correct horse", display_name="Alice")


@pytest.fixture
def bob(database: str) -> User:
    return User.objects.create_user("bob@example.com", "battery staple", display_name="Bob")


class IssueToken(Protocol):
    def __call__(self, user: User, *scopes: str, ttl_s: int = 300) -> str: ...


@pytest.fixture
def issue_token() -> IssueToken:
    """Signs tokens as ``manage.py issue_token`` does, whether or not their user holds the scopes."""

    def issue(user: User, *scopes: str, ttl_s: int = 300) -> str:
        return in_thread(issue_access_token, user, scopes, ttl_s=ttl_s, client_id="tests")

    return issue


def sign(claims: Mapping[str, Any], typ: str = "at+jwt") -> str:
    """A token with the service's own signature, whatever it says."""
    return in_thread(sign_as_issuer, {**claims}, typ)


def in_thread[**P, T](function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call what needs Django's database, as signing does, from a test that may be a coroutine."""

    def call() -> T:
        try:
            return function(*args, **kwargs)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def machine_token(*scopes: str, client_id: str = "a-machine") -> str:
    """What the issuer gives a client that calls for itself (RFC 6749, section 4.4)."""
    now = int(time.time())
    return sign(
        {
            "iss": config.base_url,
            "aud": config.api_audience,
            "sub": client_id,
            "client_id": client_id,
            "iat": now,
            "exp": now + 300,
            "jti": secrets.token_hex(),
            "scope": " ".join(scopes),
        }
    )


def make_api_key(owner: User, *scopes: str, **fields: Any) -> str:
    """A key as the admin makes it: what is shown once; only its hash is in the database."""
    key = new_key()
    keep(ApiKey(name="a script", owner=owner, scopes=" ".join(scopes), **fields), key)
    return key


def give(holder: User | Group, *permissions: str) -> None:
    """Let a user or a group hold these permissions, such as ``view_user``. It ends the tokens that they had."""
    held = holder.user_permissions if isinstance(holder, User) else holder.permissions
    held.add(*(Permission.objects.get(codename=permission) for permission in permissions))
    if isinstance(holder, User):
        holder.refresh_from_db(fields=["token_version"])  # Or a token issued next would be one of those.


@pytest_asyncio.fixture
async def client(database: str) -> AsyncIterator[httpx2.AsyncClient]:
    """An anonymous client of the whole app, on its real lifespan."""
    async with LifespanManager(app, startup_timeout=60, shutdown_timeout=60) as manager:
        transport = httpx2.ASGITransport(manager.app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as anonymous:
            yield anonymous


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest_asyncio.fixture
async def writer(client: httpx2.AsyncClient, alice: User, issue_token: IssueToken) -> httpx2.AsyncClient:
    """Alice's client, who may read and write users."""
    client.headers.update(bearer(issue_token(alice, "users:read", "users:write")))
    return client


def assert_problem(answer: httpx2.Response, status: int) -> dict[str, Any]:
    """The problem that an error response carries, which says what its status line says."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem
