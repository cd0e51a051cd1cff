"""Who asks in the stories about users, beside the ``writer`` of all stories."""

from typing import TYPE_CHECKING

import httpx2
import pytest_asyncio

if TYPE_CHECKING:  # pytest imports this before Django has its settings.
    from project.accounts.models import User
    from tests.fixtures import IssueToken


@pytest_asyncio.fixture
async def reader(client: httpx2.AsyncClient, alice: "User", issue_token: "IssueToken") -> httpx2.AsyncClient:
    """Alice's client, who may read users only; in the issuer's stories a reader is Alice herself."""
    client.headers["Authorization"] = f"Bearer {issue_token(alice, 'users:read')}"
    return client
