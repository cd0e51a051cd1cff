import httpx2
import pytest

from project.accounts.models import User
from tests.fixtures import IssueToken, bearer

pytestmark = pytest.mark.asyncio


async def test_create_user__new_address__is_there_with_its_location(
    client: httpx2.AsyncClient, alice: User, issue_token: IssueToken
) -> None:
    token = bearer(issue_token(alice, "users:read", "users:write"))

    created = await client.post("/api/v1/users", headers=token, json={"email": "New@Example.com"})

    assert created.status_code == 201
    found = await client.get(created.headers["location"], headers=token)
    assert found.json() == created.json()
    assert found.json()["email"] == "new@example.com"
