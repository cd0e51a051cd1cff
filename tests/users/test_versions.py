"""Changes that begin from a version: of many who read the same, one may write."""

import asyncio

import httpx2
import pytest
from django.db import connection, transaction
from django.db.models import F

from project.accounts.models import User
from tests.fixtures import assert_problem

pytestmark = pytest.mark.asyncio


async def etag(client: httpx2.AsyncClient, user: User) -> str:
    answer = await client.get(f"/api/v1/users/{user.pk}")
    tag: str = answer.headers["etag"]
    return tag


async def test_get_user__known_version__is_not_sent_again(reader: httpx2.AsyncClient, alice: User, bob: User) -> None:
    for path in (f"/api/v1/users/{bob.pk}", "/api/v1/users/me"):
        tag = (await reader.get(path)).headers["etag"]

        again = await reader.get(path, headers={"if-none-match": f'"x", W/{tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert (await reader.get(path, headers={"if-none-match": '"x"'})).status_code == 200
        assert_problem(await reader.get(path, headers={"if-none-match": "x"}), 422)


async def test_change__each__answers_with_the_next_version(writer: httpx2.AsyncClient, bob: User) -> None:
    created = await writer.post("/api/v1/users", json={"email": "new@example.com"})
    assert created.headers["etag"] == (await writer.get(created.headers["location"])).headers["etag"]

    tags = [await etag(writer, bob)]
    for name in "abc":
        answer = await writer.patch(
            f"/api/v1/users/{bob.pk}", json={"display_name": name}, headers={"if-match": tags[-1]}
        )
        assert answer.status_code == 200
        tags.append(answer.headers["etag"])
        assert await etag(writer, bob) == tags[-1]

    assert len(set(tags)) == 4


@pytest.mark.parametrize("condition", ['"1-0"', "W/{tag}", '"x", "y"'])
async def test_change__other_version__fails_and_changes_nothing(
    condition: str, writer: httpx2.AsyncClient, bob: User
) -> None:
    path, headers = f"/api/v1/users/{bob.pk}", {"if-match": condition.format(tag=await etag(writer, bob))}

    assert_problem(await writer.patch(path, json={"display_name": "Changed"}, headers=headers), 412)
    assert_problem(await writer.delete(path, headers=headers), 412)

    await bob.arefresh_from_db()
    assert (bob.display_name, bob.is_active, bob.version) == ("Bob", True, 1)


async def test_change__any_version_or_one_of_a_list__is_made(writer: httpx2.AsyncClient, bob: User) -> None:
    path = f"/api/v1/users/{bob.pk}"
    for condition in ("*", f'"x", {await etag(writer, bob)}'):
        tag = await etag(writer, bob)
        headers = {"if-match": condition if condition == "*" else f'"x", {tag}'}
        assert (await writer.patch(path, json={"display_name": "B."}, headers=headers)).status_code == 200

    headers = {"if-match": await etag(writer, bob)}
    assert (await writer.delete(path, headers=headers)).status_code == 204
    assert_problem(await writer.delete(path, headers=headers), 412)


async def test_change__no_condition_or_nobody_there__is_as_ever(writer: httpx2.AsyncClient, bob: User) -> None:
    assert (await writer.patch(f"/api/v1/users/{bob.pk}", json={})).status_code == 200
    for condition in ("*", '"1-0"'):
        answer = await writer.patch("/api/v1/users/999999", json={}, headers={"if-match": condition})
        assert_problem(answer, 404)
    assert_problem(await writer.patch(f"/api/v1/users/{bob.pk}", json={}, headers={"if-match": "1"}), 422)


async def test_change__many_from_one_version__one_wins(writer: httpx2.AsyncClient, bob: User) -> None:
    headers = {"if-match": await etag(writer, bob)}

    answers = await asyncio.gather(
        *(
            writer.patch(f"/api/v1/users/{bob.pk}", json={"display_name": f"Name {number}"}, headers=headers)
            for number in range(20)
        )
    )

    won = [answer for answer in answers if answer.status_code == 200]
    assert len(won) == 1
    assert {answer.status_code for answer in answers} == {200, 412}
    assert (await writer.get(f"/api/v1/users/{bob.pk}")).json() == won[0].json()


async def test_django__whichever_way_it_writes__raises_the_version(writer: httpx2.AsyncClient, bob: User) -> None:
    tags = [await etag(writer, bob)]

    async def assert_raised() -> None:
        tags.append(await etag(writer, bob))
        assert len(set(tags)) == len(tags)

    bob.display_name = "Saved"
    await bob.asave()
    assert bob.version == 2, "the instance knows"
    await assert_raised()
    await User.objects.filter(pk=bob.pk).aupdate(display_name=F("email"))
    await assert_raised()
    await User.objects.abulk_update([bob], ["display_name"])
    await assert_raised()


async def test_django__saves_what_it_read_before_the_api_wrote__makes_no_old_version_again(
    writer: httpx2.AsyncClient, bob: User
) -> None:
    tags = [await etag(writer, bob)]
    tags.append((await writer.patch(f"/api/v1/users/{bob.pk}", json={"display_name": "A."})).headers["etag"])

    await bob.asave()  # As the admin's form does: every column, from before.

    tags.append(await etag(writer, bob))
    assert len(set(tags)) == 3


def _log_in(user: User) -> None:
    with transaction.atomic():
        user.save(update_fields=["last_login"])
    connection.close()


async def test_django__writes_what_the_api_does_not_show__keeps_the_version(
    writer: httpx2.AsyncClient, bob: User
) -> None:
    tag = await etag(writer, bob)

    await asyncio.to_thread(_log_in, bob)

    assert await etag(writer, bob) == tag
