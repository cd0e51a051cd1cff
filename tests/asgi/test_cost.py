"""What a request costs, counted and not timed, so that a layer too many is seen on any machine."""

import sys
from collections import Counter
from pathlib import Path
from types import CodeType
from typing import Any

import httpx2
import pytest

from project.accounts.models import User
from tests.fixtures import IssueToken, bearer

ROOT = Path(__file__).parents[2]
OURS = tuple(str(ROOT / part) for part in ("asgi.py", "project", "fastapi_app"))
FRAMEWORKS = tuple(f"/site-packages/{name}/" for name in ("starlette", "fastapi", "asgiref", "django"))
MOST_CALLS = 110
"""Of functions of ours and of the frameworks, for one read. What is added to each request is added to all of them:
raise this knowingly."""


class Calls:
    """Counts what Python functions are called, while it is entered."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()

    def __enter__(self) -> "Calls":
        sys.monitoring.use_tool_id(sys.monitoring.PROFILER_ID, "tests")
        sys.monitoring.register_callback(sys.monitoring.PROFILER_ID, sys.monitoring.events.PY_START, self._count)
        sys.monitoring.set_events(sys.monitoring.PROFILER_ID, sys.monitoring.events.PY_START)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.monitoring.set_events(sys.monitoring.PROFILER_ID, 0)
        sys.monitoring.free_tool_id(sys.monitoring.PROFILER_ID)

    def _count(self, code: CodeType, _offset: int) -> Any:
        if code.co_filename.startswith(OURS) or any(name in code.co_filename for name in FRAMEWORKS):
            self.counted[f"{code.co_qualname} in {code.co_filename}"] += 1


@pytest.mark.asyncio
async def test_read__through_the_root__calls_few_functions(
    client: httpx2.AsyncClient, alice: User, issue_token: IssueToken
) -> None:
    token = bearer(issue_token(alice, "users:read"))
    for _ in range(2):  # What is made once is made.
        assert (await client.get(f"/api/v1/users/{alice.pk}", headers=token)).status_code == 200

    with Calls() as calls:
        await client.get(f"/api/v1/users/{alice.pk}", headers=token)

    by_cost = "\n".join(f"{number:4} {name}" for name, number in calls.counted.most_common())
    assert calls.counted.total() <= MOST_CALLS, by_cost
