"""Keys across processes, and across their death."""

import datetime
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from django.core.management import call_command

from project.accounts.models import User
from project.config import ANSWERS_KEPT_FOR
from project.idempotency.models import KeptAnswer
from tests.asgi.server import PATIENCE_S, serving
from tests.fixtures import IssueToken, bearer

REQUESTS = 64
NEW = {"email": "new@example.com"}


def headers(alice: User, issue_token: IssueToken) -> dict[str, str]:
    return {**bearer(issue_token(alice, "users:write")), "idempotency-key": "the same for all"}


def until_answered(url: str, headers: dict[str, str]) -> tuple[list[int], httpx2.Response]:
    """A patient client: it repeats the request for as long as the first is in flight. What it was told, at last."""
    statuses, deadline = list[int](), time.monotonic() + PATIENCE_S
    while True:
        answer = httpx2.post(f"{url}/api/v1/users", json=NEW, headers=headers, timeout=PATIENCE_S)
        statuses.append(answer.status_code)
        if answer.status_code != 409 or time.monotonic() > deadline:
            return statuses, answer
        assert answer.headers["retry-after"] == "1"
        time.sleep(0.05)


def test_key__in_parallel_at_two_processes__one_row_and_equal_answers(
    alice: User, issue_token: IssueToken, database: str, tmp_path: Path
) -> None:
    env, asked = {"DATABASE_URL": database}, headers(alice, issue_token)
    with (
        serving(tmp_path / "one", env=env) as one,
        serving(tmp_path / "two", env=env) as two,
        ThreadPoolExecutor(REQUESTS) as threads,
    ):
        urls = [one.url, two.url] * (REQUESTS // 2)
        told = list(threads.map(until_answered, urls, [asked] * REQUESTS))

    assert {status for statuses, _ in told for status in statuses} <= {201, 409}
    assert {answer.status_code for _, answer in told} == {201}
    assert len({(answer.content, answer.headers["location"], answer.headers["etag"]) for _, answer in told}) == 1
    assert sum("idempotency-replayed" not in answer.headers for _, answer in told) == 1
    assert User.objects.filter(email=NEW["email"]).count() == 1


@pytest.mark.parametrize("when", ["before the commit", "after the commit"])
def test_process__killed_between_effect_and_answer__a_retry_finds_one_row(
    when: str, alice: User, issue_token: IssueToken, database: str, tmp_path: Path
) -> None:
    asked = headers(alice, issue_token)
    with serving(
        tmp_path / "doomed", app="tests.idempotency.apps:app", env={"DATABASE_URL": database, "DIE": when}
    ) as doomed:
        with pytest.raises(httpx2.RequestError):
            httpx2.post(f"{doomed.url}/api/v1/users", json=NEW, headers=asked, timeout=PATIENCE_S)
        assert doomed.exit_code() == -9
    assert KeptAnswer.objects.count() == User.objects.filter(email=NEW["email"]).count()

    with serving(tmp_path / "log", env={"DATABASE_URL": database}) as server:
        _, retried = until_answered(server.url, asked)
        _, again = until_answered(server.url, asked)

    assert retried.status_code == 201
    assert ("idempotency-replayed" in retried.headers) == (when == "after the commit")
    assert again.content == retried.content
    assert User.objects.filter(email=NEW["email"]).count() == 1


def test_command__deletes_what_is_a_day_old(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"caller": "user:1", "route": "POST /", "fingerprint": ""}
    KeptAnswer.objects.create(key="young", **values)
    KeptAnswer.objects.create(key="old", created_at=datetime.datetime.now(datetime.UTC) - ANSWERS_KEPT_FOR, **values)

    call_command("delete_kept_answers")

    assert capsys.readouterr().out == "1 deleted\n"
    assert [kept.key for kept in KeptAnswer.objects.all()] == ["young"]
