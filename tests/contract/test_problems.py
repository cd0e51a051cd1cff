"""Errors: one shape and one type for a thing, whichever layer it comes from; and every type has a page that opens."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import httpx2
import pytest

from fastapi_app.app import VERSIONS, create_api
from fastapi_app.core.docs import openapi_document
from fastapi_app.core.errors import AppError, registry
from fastapi_app.core.negotiation import quality
from fastapi_app.core.problem_types import GENERIC
from project.accounts.models import User
from tests.asgi.server import PATIENCE_S, Server, serving
from tests.fixtures import IssueToken, bearer

BASE_URL = "http://127.0.0.1:8000"
LAYERS = ("starlette", "fastapi", "middleware")
STATUSES = (400, 401, 403, 404, 405, 406, 409, 412, 413, 414, 415, 422, 428, 429, 431, 500, 503, 504)


@pytest.fixture(scope="module")
def server(migrated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The product with the tests' failing layers (tests/contract/apps.py), little time and small bodies."""
    log = tmp_path_factory.mktemp("failing") / "log"
    env = {"REQUEST_TIMEOUT_S": "1", "MAX_BODY_BYTES": "1000", "CORS_ORIGINS": "https://app.example.com"}
    with serving(log, app="tests.contract.apps:app", env=env) as running:
        yield running


def problem_in(answer: httpx2.Response, name: str) -> dict[str, Any]:
    """The problem of an answer, once it is certain that it is the registered one of this name, in every respect."""
    registered = registry()[name]
    assert answer.status_code == registered.status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"{BASE_URL}/api/problems/{name}"
    assert problem["title"] == registered.title
    assert problem["status"] == registered.status
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert "secret" not in answer.text
    return problem


# The registry


def errors_of_the_api(error: type[AppError] = AppError) -> Iterator[type[AppError]]:
    for subclass in error.__subclasses__():
        if subclass.__module__.startswith("fastapi_app."):
            yield subclass
        yield from errors_of_the_api(subclass)


def test_every_error_of_the_api__has_a_registered_problem_that_fits_it() -> None:
    found = list(errors_of_the_api())
    assert len(found) > 8

    for error in found:
        assert "problem" in vars(error), f"{error.__name__} names no problem of its own"
        assert registry()[error.problem.name] == error.problem, f"two problems are called {error.problem.name}"
        kinds = [kind for kind in error.__mro__[1:] if issubclass(kind, AppError) and "problem" in vars(kind)]
        assert all(kind.problem.status is error.problem.status for kind in kinds)


def test_registry__says_what_a_client_needs_to_know() -> None:
    for problem in registry().values():
        assert problem.name == problem.name.lower().replace(" ", "-").replace("_", "-")
        assert problem.status >= HTTPStatus.BAD_REQUEST
        for words in (problem.when, problem.cure):
            assert words.endswith("."), f"{problem.name}: {words}"
        assert not problem.title.endswith(".")
    assert set(STATUSES) == {int(status) for status in GENERIC}


def test_document__every_operation__declares_problems_that_are_registered() -> None:
    for version in VERSIONS:
        document = openapi_document(create_api(), version, server=f"/api/{version.name}")
        examples = document["components"]["examples"]
        for path, operations in document["paths"].items():
            for operation in operations.values():
                refusals = {status: found for status, found in operation["responses"].items() if status >= "400"}
                assert {"400", "401", "403", "500", "503", "504"} <= refusals.keys(), path
                for status, refusal in refusals.items():
                    names = refusal["content"]["application/problem+json"]["examples"]
                    assert names
                    for name in names:
                        assert registry()[name].status == int(status)
                        assert examples[name]["value"]["type"] == registry()[name].uri


# The pages


@pytest.mark.asyncio
async def test_pages__every_type__opens_and_tells_when_and_what_to_do(client: httpx2.AsyncClient) -> None:
    index = await client.get("/api/problems")
    assert index.status_code == 200

    for problem in registry().values():
        path = problem.uri.removeprefix(BASE_URL)
        assert f'href="{path}"' in index.text
        page = await client.get(path)
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
        for words in (problem.title, "When it happens", "What to do"):
            assert words in page.text


@pytest.mark.asyncio
async def test_pages__unknown_type__is_a_problem_and_repeats_nothing(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/api/problems/<script>alert(1)</script>")

    assert answer.status_code == 404
    problem_in(await client.get("/api/problems/never-heard-of"), "not-found")


# The same from every layer


@pytest.mark.parametrize("status", STATUSES)
def test_problem__from_any_layer__is_the_same(status: int, server: Server) -> None:
    with server.client() as client:
        for layer in LAYERS:
            problem_in(client.get(f"/api/test/{layer}/{status}"), GENERIC[HTTPStatus(status)].name)


def test_problem__unregistered_status__says_no_more_than_the_status(server: Server) -> None:
    with server.client() as client:
        for layer in LAYERS:
            answer = client.get(f"/api/test/{layer}/418")
            assert (answer.json()["type"], answer.json()["title"]) == ("about:blank", "I'm a Teapot")


@pytest.mark.parametrize("status", ["400", "403", "404", "422", "500", "503"])
def test_problem__from_django_over_the_bridge__is_the_same(status: str, server: Server) -> None:
    with server.client() as client:
        answer = client.get(f"/api/test/django/{status}")

    problem = problem_in(answer, GENERIC[HTTPStatus(int(status))].name)
    if status == "422":
        assert problem["errors"] == [
            {"detail": "Too short.", "pointer": "#/name"},
            {"detail": "Too plain.", "pointer": "#/name"},
            {"detail": "Does not fit.", "pointer": "#"},
        ]
    if status == "503":
        assert answer.headers["retry-after"] == "5"


def test_problem__in_earnest__is_the_same(server: Server, alice: User, bob: User, issue_token: IssueToken) -> None:
    token = bearer(issue_token(alice, "users:read"))
    writer = bearer(issue_token(alice, "users:write"))
    users = "/api/v1/users"
    with server.client() as client:
        problem_in(client.get(users, headers={"host": "evil.example"}), "bad-request")
        problem_in(client.get(users), "unauthenticated")
        problem_in(client.get(users, headers=bearer("nonsense")), "unauthenticated")
        problem_in(client.post(users, headers=token, json={"email": "new@example.com"}), "forbidden")
        problem_in(client.get("/api/nowhere"), "not-found")
        problem_in(client.get("/api/v9/users"), "not-found")
        problem_in(client.get(f"{users}/999999", headers=token), "user-not-found")
        problem_in(client.post(users, headers=writer, json={"email": "bob@example.com"}), "email-taken")
        problem_in(client.get(users, headers={**token, "accept": "text/html"}), "not-acceptable")
        problem_in(client.post(users, headers=writer, content=b"x" * 2000), "content-too-large")
        problem_in(client.post(users, headers=writer, content=iter([b"x" * 2000])), "content-too-large")
        problem_in(client.post(users, headers=writer, content="email=x"), "unsupported-media-type")
        problem_in(client.post(users, headers=writer, json={}), "invalid-request")
        stale = {**writer, "if-match": '"0-00000000"'}
        problem_in(client.patch(f"{users}/{bob.pk}", headers=stale, json={"display_name": "B"}), "precondition-failed")
        keyed = {**writer, "idempotency-key": "a-key"}
        assert client.post(users, headers=keyed, json={"email": "new@example.com"}).status_code == 201
        problem_in(client.post(users, headers=keyed, json={"email": "x@example.com"}), "idempotency-key-reused")
        rows = {**writer, "content-type": "application/jsonl"}
        wrong = problem_in(client.post(f"{users}/import", headers=rows, content='{"email": 1}'), "invalid-rows")
        assert [(error["line"], error["pointer"]) for error in wrong["errors"]] == [(1, "#/email")]
        problem_in(client.get("/api/test/sleep"), "timeout")


def test_problem__for_a_script_of_an_allowed_origin__can_be_read_from_any_layer(server: Server) -> None:
    origin = {"origin": "https://app.example.com"}
    for path in ("v1/users", "nowhere", "test/django/500", "test/middleware/413", "test/sleep"):
        answer = httpx2.get(f"{server.url}/api/{path}", headers=origin, timeout=PATIENCE_S)
        assert answer.status_code >= 400
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com", path


# 405 and 406


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/users", "GET, POST"),
        ("PUT", "/users/1", "DELETE, GET, PATCH"),
        ("OPTIONS", "/users/1", "DELETE, GET, PATCH"),
        ("PATCH", "/users/me", "GET"),
        ("DELETE", "/users/me", "GET"),
        ("POST", "/users/me", "GET"),
        ("GET", "/users/import", "POST"),
        ("DELETE", "/users/export", "GET"),
    ],
)
@pytest.mark.asyncio
async def test_method__not_of_this_address__is_refused_with_all_that_are(
    method: str, path: str, allowed: str, client: httpx2.AsyncClient
) -> None:
    answer = await client.request(method, f"/api/v1{path}")

    problem_in(answer, "method-not-allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", True),
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/*", True),
        ("text/html, application/json;q=0.1", True),
        ("text/html,*/*;q=0.8", True),
        ("application/json;q=high", True),
        ("text/html", False),
        ("text/*, image/png", False),
        ("application/xml", False),
        ("application/json;q=0", False),
        ("*/*, application/json;q=0", False),
        ("application/*;q=0, */*", False),
        ("*/*;q=0, application/json", True),
        ("application/problem+json", False),
        ("nonsense", False),
    ],
)
def test_quality__is_as_rfc_9110_has_it(accept: str, *, expected: bool) -> None:
    assert (quality(accept.encode(), "application/json") > 0) is expected


@pytest.mark.asyncio
async def test_accept__several_headers_or_nothing_to_send__is_served(
    client: httpx2.AsyncClient, alice: User, bob: User, issue_token: IssueToken
) -> None:
    token = issue_token(alice, "users:read", "users:write")
    authorization = ("authorization", f"Bearer {token}")

    two = [authorization, ("accept", "text/html"), ("accept", "application/json")]
    assert (await client.get("/api/v1/users", headers=two)).status_code == 200
    deleted = await client.delete(f"/api/v1/users/{bob.pk}", headers=[authorization, ("accept", "text/html")])
    assert deleted.status_code == 204
    refused = await client.get("/api/v1/users", headers=[authorization, ("accept", "text/html")])
    assert problem_in(refused, "not-acceptable")["detail"] == "This address has application/json."
