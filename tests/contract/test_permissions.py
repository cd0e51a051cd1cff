"""Who may call what: every route of the API beside every kind of caller. A route without a row fails here."""

import json
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from asgiref.sync import sync_to_async
from fastapi.routing import APIRoute
from starlette.routing import Route

from fastapi_app.app import create_api
from project.accounts.models import User
from tests.fixtures import IssueToken, bearer, give, machine_token, make_api_key

CALLERS = ("anonymous", "wrong scope", "right scope", "other user", "staff", "machine", "API key")
PUBLIC = {
    *("GET /", "GET /docs", "GET /docs.js", "GET /docs/oauth2-redirect", "GET /openapi.json"),
    *("GET /v1/docs", "GET /v1/openapi.json", "GET /problems", "GET /problems/{name}"),
}
"""What anybody may see: what the API is, not what it knows."""
REFUSED = {
    *("PATCH /v1/users/me", "DELETE /v1/users/me", "PATCH /v1/users/export", "DELETE /v1/users/export"),
    *("GET /v1/users/import", "PATCH /v1/users/import", "DELETE /v1/users/import"),
}
"""What nobody may do: 405, lest ``/users/{user_id}`` answer."""


@dataclass(frozen=True)
class Row:
    """A route, the scope that it demands, and what each of ``CALLERS`` is answered."""

    route: str
    scope: str
    answers: tuple[int, ...]
    body: Any = None
    media_type: str = "application/json"


# The path is about Carol. "other user" is Bob with no scope, "staff" has none either: being staff opens nothing here.
MATRIX = [
    Row("GET /v1/users", "users:read", (401, 403, 200, 403, 403, 200, 200)),
    Row("GET /v1/users/me", "", (401, 200, 200, 200, 200, 403, 200)),
    Row("GET /v1/users/{user_id}", "users:read", (401, 403, 200, 403, 403, 200, 200)),
    Row("GET /v1/users/export", "users:read", (401, 403, 200, 403, 403, 200, 200)),
    Row(
        "POST /v1/users/import",
        "users:write",
        (401, 403, 200, 403, 403, 200, 200),
        {"email": "CALLER@example.com"},
        "application/jsonl",
    ),
    Row("POST /v1/users", "users:write", (401, 403, 201, 403, 403, 201, 201), {"email": "CALLER@example.com"}),
    Row("PATCH /v1/users/{user_id}", "users:write", (401, 403, 200, 403, 403, 200, 200), {"display_name": "C"}),
    Row("DELETE /v1/users/{user_id}", "users:write", (401, 403, 204, 403, 403, 204, 204)),
]


def routes() -> set[str]:
    found = set()
    for route in create_api().routes:
        assert isinstance(route, APIRoute | Route), f"teach this test to look into {route}"
        methods = (route.methods or set()) - {"HEAD"}
        found |= {f"{method} {route.path}" for method in methods}
    return found


def test_matrix__has_a_row_for_each_route_and_no_other() -> None:
    assert {row.route for row in MATRIX} == routes() - PUBLIC - REFUSED


@pytest.fixture
def carol(database: str) -> User:
    return User.objects.create_user("carol@example.com", display_name="Carol")


@pytest.fixture
def staff(database: str) -> User:
    return User.objects.create_user("staff@example.com", is_staff=True)


@pytest.mark.asyncio
@pytest.mark.parametrize("row", MATRIX, ids=lambda row: row.route)
async def test_route__each_caller__is_answered_as_the_matrix_says(
    row: Row,
    client: httpx2.AsyncClient,
    alice: User,
    bob: User,
    carol: User,
    staff: User,
    issue_token: IssueToken,
) -> None:
    await sync_to_async(give)(alice, "view_user", "add_user", "change_user")
    scopes, others = row.scope.split(), {"users:read", "users:write", "unknown:scope"} - {row.scope}
    shown = {
        "anonymous": {},
        "wrong scope": bearer(issue_token(alice, *others)),
        "right scope": bearer(issue_token(alice, *scopes)),
        "other user": bearer(issue_token(bob)),
        "staff": bearer(issue_token(staff)),
        "machine": bearer(machine_token(*scopes)),
        "API key": bearer(await sync_to_async(make_api_key)(alice, *scopes)),
    }
    method, path = row.route.split()

    answers = {}
    for caller, headers in shown.items():
        body = {name: value.replace("CALLER", caller.replace(" ", "-")) for name, value in (row.body or {}).items()}
        answer = await client.request(
            method,
            f"/api{path.format(user_id=carol.pk)}",
            headers={**headers, "content-type": row.media_type},
            content=json.dumps(body) if row.body else None,
        )
        answers[caller] = answer.status_code
        assert answer.is_success or answer.headers["content-type"] == "application/problem+json"

    assert answers == dict(zip(CALLERS, row.answers, strict=True))
