"""The tests' world, once the environment is set: a database, people in it, tokens, the app on its lifespan."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest
import pytest_asyncio
from asgi_lifespan import LifespanManager
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from asgi import app
from project.accounts.models import User
from project.config import config
from project.idempotency.models import KeptAnswer
from project.identity.tokens import issue_access_token
from tests.postgresql import SERVER_FAULT, SERVER_URL, database_on


def absent(reason: str) -> None:
    """Skip for want of a service, or fail where every service must be there."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """A real hash takes a third of a second, which is its purpose and not that of these tests."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


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
    for model in (LogEntry, Session, Group, KeptAnswer, User):
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
    """Signs tokens as ``manage.py issue_token`` does."""

    def issue(user: User, *scopes: str, ttl_s: int = 300) -> str:
        return issue_access_token(user, scopes, ttl_s=ttl_s, client_id="tests", config=config)

    return issue


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
async def reader(client: httpx2.AsyncClient, alice: User, issue_token: IssueToken) -> httpx2.AsyncClient:
    """Alice's client, who may read users only."""
    client.headers.update(bearer(issue_token(alice, "users:read")))
    return client


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
