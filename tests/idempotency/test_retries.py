"""A POST that is repeated with its key: one effect, one answer."""

import datetime
from typing import Any

import asyncpg
import httpx2
import pytest

from fastapi_app.app import create_api
from fastapi_app.core import idempotency
from fastapi_app.core.statements import Row, Statement
from fastapi_app.users.errors import EmailTaken
from fastapi_app.users.repository import UserRepository
from fastapi_app.users.schemas import UserCreate, UserQuery
from fastapi_app.users.service import UserService
from project.accounts.models import User
from project.config import ANSWERS_KEPT_FOR
from project.idempotency.models import KeptAnswer
from tests.fixtures import IssueToken, assert_problem, bearer

pytestmark = pytest.mark.asyncio

NEW = {"email": "new@example.com", "display_name": "New"}
KEY = {"idempotency-key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


def told(answer: httpx2.Response) -> dict[str, Any]:
    """What of an answer is the same when it is repeated."""
    own = {"x-request-id", "ratelimit", "ratelimit-policy", "idempotency-replayed", "date"}
    headers = {name: value for name, value in answer.headers.items() if name not in own}
    return {"status": answer.status_code, "headers": headers, "body": answer.content}


async def test_retry__same_request__has_the_first_answer_and_no_effect(writer: httpx2.AsyncClient) -> None:
    first = await writer.post("/api/v1/users", json=NEW, headers=KEY)
    assert first.status_code == 201
    assert "idempotency-replayed" not in first.headers
    await writer.patch(first.headers["location"], json={"display_name": "Changed since"})

    again = await writer.post("/api/v1/users", json=NEW, headers=KEY)

    assert again.headers["idempotency-replayed"] == "true"
    assert told(again) == told(first)
    assert {"location", "etag", "content-type", "content-length"} <= set(again.headers)
    assert await User.objects.filter(email=NEW["email"]).acount() == 1


async def test_key__with_another_body_query_or_form__is_refused(writer: httpx2.AsyncClient) -> None:
    await writer.post("/api/v1/users", json=NEW, headers=KEY)

    other = [
        await writer.post("/api/v1/users", json={"email": "other@example.com"}, headers=KEY),
        await writer.post("/api/v1/users?x=1", json=NEW, headers=KEY),
        await writer.post("/api/v1/users", json={"email": "not even valid"}, headers=KEY),
    ]

    for answer in other:
        assert "Idempotency-Key" in assert_problem(answer, 422)["detail"]
    assert not await User.objects.filter(email="other@example.com").aexists()


async def test_key__of_another_caller_or_route__is_another_key(
    writer: httpx2.AsyncClient, bob: User, issue_token: IssueToken
) -> None:
    await writer.post("/api/v1/users", json=NEW, headers=KEY)

    of_bob = bearer(issue_token(bob, "users:write"))
    mine = await writer.post("/api/v1/users", json={"email": "two@example.com"}, headers=KEY | of_bob)
    imported = await writer.post(
        "/api/v1/users/import",
        content=b'{"email": "three@example.com"}',
        headers={**KEY, "content-type": "application/jsonl"},
    )

    assert mine.status_code == 201
    assert imported.status_code == 200


async def test_retry__caller_may_no_longer__is_refused_and_shown_nothing(
    writer: httpx2.AsyncClient, alice: User, issue_token: IssueToken
) -> None:
    await writer.post("/api/v1/users", json=NEW, headers=KEY)

    assert_problem(await writer.post("/api/v1/users", json=NEW, headers=KEY | {"authorization": ""}), 401)
    read_only = bearer(issue_token(alice, "users:read"))
    assert_problem(await writer.post("/api/v1/users", json=NEW, headers=KEY | read_only), 403)


async def test_refusal__is_not_kept__so_that_the_key_is_good_once_it_can_be_done(
    writer: httpx2.AsyncClient, bob: User
) -> None:
    taken = {"email": "bob@example.com"}
    assert_problem(await writer.post("/api/v1/users", json=taken, headers=KEY), 409)
    assert_problem(await writer.post("/api/v1/users", json={}, headers={"idempotency-key": "invalid"}), 422)
    assert not await KeptAnswer.objects.aexists()

    await bob.adelete()
    assert (await writer.post("/api/v1/users", json=taken, headers=KEY)).status_code == 201


async def test_import__repeated__is_done_once(writer: httpx2.AsyncClient) -> None:
    headers = {**KEY, "content-type": "text/csv"}
    body = b"email,display_name\na@example.com,A\nb@example.com,B\n"

    answers = [await writer.post("/api/v1/users/import", content=body, headers=headers) for _ in range(2)]

    assert [answer.json() for answer in answers] == [{"created": 2}] * 2
    assert answers[1].headers["idempotency-replayed"] == "true"


async def test_import__with_a_key_and_wrong_rows__saves_nothing(writer: httpx2.AsyncClient) -> None:
    headers = {**KEY, "content-type": "text/csv"}
    body = b"email\na@example.com\nb@example.com\na@example.com\n"

    assert_problem(await writer.post("/api/v1/users/import", content=body, headers=headers), 422)

    assert not await User.objects.filter(email="b@example.com").aexists()
    assert not await KeptAnswer.objects.aexists()


async def get_or_create(self: UserService, new: UserCreate) -> Row:
    try:
        return await self._users.add(email=new.email, display_name=new.display_name)
    except EmailTaken:
        (user,) = (await self._users.page(UserQuery(email=new.email))).items
        return await self.get(user["id"])


async def test_service__translates_a_refusal_and_reads_on__does_so_with_a_key_too(
    writer: httpx2.AsyncClient, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UserService, "create", get_or_create)
    taken = {"email": "bob@example.com"}

    without = await writer.post("/api/v1/users", json=taken)
    first, again = [await writer.post("/api/v1/users", json=taken, headers=KEY) for _ in range(2)]

    assert without.status_code == 201
    assert without.json()["id"] == bob.pk
    assert told(first) == told(again) == told(without)
    assert again.headers["idempotency-replayed"] == "true"


async def try_out(self: UserService, new: UserCreate) -> Row:
    async with self._database.transaction() as transaction:
        return await UserRepository(transaction).add(email=new.email, display_name=new.display_name)


async def test_service__leaves_a_transaction_without_commit__undoes_it_with_a_key_too(
    writer: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UserService, "create", try_out)

    for headers in ({}, KEY):
        assert (await writer.post("/api/v1/users", json=NEW, headers=headers)).status_code == 201
        assert not await User.objects.filter(email=NEW["email"]).aexists()
    assert await KeptAnswer.objects.acount() == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tbed", "é"])
async def test_key__is_none__is_named(key: str, writer: httpx2.AsyncClient) -> None:
    headers = [(b"idempotency-key", key.encode())]

    problem = assert_problem(await writer.post("/api/v1/users", json=NEW, headers=headers), 422)

    assert [error["parameter"] for error in problem["errors"]] == ["Idempotency-Key"]


async def test_key__a_day_old__is_new_again_and_cleaned_up(
    writer: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert datetime.timedelta(hours=24) == ANSWERS_KEPT_FOR
    for number in range(3):
        await writer.post(
            "/api/v1/users", json={"email": f"{number}@example.com"}, headers={"idempotency-key": f"{number}"}
        )
    long_ago = datetime.datetime.now(datetime.UTC) - ANSWERS_KEPT_FOR - datetime.timedelta(seconds=1)
    await KeptAnswer.objects.aupdate(created_at=long_ago)

    anew = await writer.post("/api/v1/users", json=NEW, headers={"idempotency-key": "0"})
    assert anew.status_code == 201
    assert await KeptAnswer.objects.acount() == 3

    monkeypatch.setattr(idempotency, "CLEAN_ONCE_IN", 1)
    await writer.post("/api/v1/users", json={"email": "more@example.com"}, headers=KEY)
    assert {kept.key async for kept in KeptAnswer.objects.all()} == {"0", KEY["idempotency-key"]}


@pytest.mark.postgresql
async def test_first_request__still_at_work__is_told_at_once_to_the_second(
    writer: httpx2.AsyncClient, alice: User, database: str
) -> None:
    values = (f"user:{alice.pk}", "POST /api/v1/users", KEY["idempotency-key"])
    working = await asyncpg.connect(database)
    async with working.transaction():
        await working.execute("SELECT pg_advisory_xact_lock($1)", idempotency._number(*values))

        answer = await writer.post("/api/v1/users", json=NEW, headers=KEY)

    await working.close()
    assert_problem(answer, 409)
    assert answer.headers["retry-after"] == "1"
    assert (await writer.post("/api/v1/users", json=NEW, headers=KEY)).status_code == 201


async def test_document__each_post__has_the_key_and_what_a_replay_says() -> None:
    for path, methods in create_api().openapi()["paths"].items():
        for method, operation in methods.items():
            keys = [one for one in operation.get("parameters", []) if one["name"] == "Idempotency-Key"]
            assert len(keys) == (method == "post"), (method, path)
            if method == "post":
                success = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
                assert "Idempotency-Replayed" in success["headers"]
                assert {"409", "422"} <= operation["responses"].keys()


async def test_post__without_a_key__runs_its_statement_alone(
    writer: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: list[Statement] = []
    arguments = Statement.arguments

    def record(self: Statement, values: Any) -> list[Any]:
        run.append(self)
        return arguments(self, values)

    monkeypatch.setattr(Statement, "arguments", record)

    assert (await writer.post("/api/v1/users", json=NEW)).status_code == 201
    assert all("idempotency" not in statement.sql for statement in run)
    assert not await KeptAnswer.objects.aexists()
