"""The users' routes through the whole app: what each answers to whom."""

import json

import httpx2
import pytest

from project.accounts.models import User
from tests.fixtures import IssueToken, assert_problem, bearer

pytestmark = pytest.mark.asyncio

BIGINT_MAX = 2**63 - 1
RESOURCE_METADATA = 'resource_metadata="http://127.0.0.1:8000/.well-known/oauth-protected-resource/api"'


# Create


async def test_create_user__new_address__is_there_with_its_location(writer: httpx2.AsyncClient) -> None:
    created = await writer.post("/api/v1/users", json={"email": "New@Example.com", "display_name": "  Né  "})

    assert created.status_code == 201
    user = created.json()
    assert created.headers["location"] == f"/api/v1/users/{user['id']}"
    assert (await writer.get(created.headers["location"])).json() == user
    assert user["email"] == "new@example.com"
    assert user["display_name"] == "Né"
    assert user["is_active"] is True
    assert user["is_staff"] is False
    assert user["created_at"] <= user["updated_at"]
    assert user["created_at"].endswith("Z")


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "once"}])
async def test_create_user__a_newline_after_the_path__is_not_found(
    headers: dict[str, str], writer: httpx2.AsyncClient
) -> None:
    answer = await writer.post("/api/v1/users%0A", json={"email": "new@example.com"}, headers=headers)

    assert_problem(answer, 404)
    assert not await User.objects.filter(email="new@example.com").aexists()


async def test_create_user__has_no_password__so_cannot_log_in(writer: httpx2.AsyncClient) -> None:
    created = (await writer.post("/api/v1/users", json={"email": "new@example.com"})).json()

    user = await User.objects.aget(pk=created["id"])
    assert not user.has_usable_password()
    assert not user.check_password("")
    assert not user.check_password("!")


@pytest.mark.parametrize("email", ["alice@example.com", "ALICE@Example.COM"])
async def test_create_user__address_is_taken_in_any_case__conflicts(email: str, writer: httpx2.AsyncClient) -> None:
    problem = assert_problem(await writer.post("/api/v1/users", json={"email": email}), 409)

    assert problem["detail"] == "A user with this e-mail address exists already."


async def test_create_user__anonymous__is_told_to_show_a_token(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/api/v1/users", json={"email": "new@example.com"})

    assert_problem(answer, 401)
    assert answer.headers["www-authenticate"] == f'Bearer realm="tandem", {RESOURCE_METADATA}'


async def test_create_user__wrong_scope__is_told_which_it_lacks(reader: httpx2.AsyncClient) -> None:
    answer = await reader.post("/api/v1/users", json={"email": "new@example.com"})

    problem = assert_problem(answer, 403)
    assert "users:write" in problem["detail"]
    assert (
        answer.headers["www-authenticate"]
        == f'Bearer realm="tandem", error="insufficient_scope", scope="users:write", {RESOURCE_METADATA}'
    )


# Read


async def test_get_user__anybody_whom_the_scope_allows__is_shown(reader: httpx2.AsyncClient, bob: User) -> None:
    answer = await reader.get(f"/api/v1/users/{bob.pk}")

    assert answer.status_code == 200
    assert answer.json()["email"] == "bob@example.com"
    assert set(answer.json()) == {
        "id", "email", "display_name", "is_active", "is_staff", "created_at", "updated_at",
    }  # fmt: skip


async def test_get_user__unknown__is_not_found(reader: httpx2.AsyncClient) -> None:
    assert_problem(await reader.get(f"/api/v1/users/{BIGINT_MAX}"), 404)


@pytest.mark.parametrize("user_id", ["0", "-1", str(BIGINT_MAX + 1), "9" * 5000, "1.5", "one", "%00", "1%00", "²"])
async def test_get_user__not_an_id__names_the_parameter(user_id: str, reader: httpx2.AsyncClient) -> None:
    problem = assert_problem(await reader.get(f"/api/v1/users/{user_id}"), 422)

    assert [error["parameter"] for error in problem["errors"]] == ["user_id"]


async def test_get_me__is_whom_the_token_speaks_for(
    client: httpx2.AsyncClient, alice: User, bob: User, issue_token: IssueToken
) -> None:
    for user in (alice, bob):
        answer = await client.get("/api/v1/users/me", headers=bearer(issue_token(user)))
        assert answer.json()["id"] == user.pk

    assert_problem(await client.get("/api/v1/users/me"), 401)


@pytest.mark.parametrize("path", ["", "/1"])
async def test_read__without_the_scope__is_forbidden(
    path: str, client: httpx2.AsyncClient, alice: User, issue_token: IssueToken
) -> None:
    assert_problem(await client.get(f"/api/v1/users{path}"), 401)
    assert_problem(await client.get(f"/api/v1/users{path}", headers=bearer(issue_token(alice, "users:write"))), 403)


# List


async def test_list_users__page_by_page__shows_each_once_in_order(writer: httpx2.AsyncClient) -> None:
    for number in range(5):
        await writer.post("/api/v1/users", json={"email": f"user{number}@example.com"})

    whole = (await writer.get("/api/v1/users")).json()
    assert whole["next_cursor"] is None
    pages, cursor = [], None
    while True:
        parameters = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await writer.get("/api/v1/users", params=parameters)).json()
        pages.append(page["items"])
        if (cursor := page["next_cursor"]) is None:
            break

    assert [len(page) for page in pages[:-1]] == [2] * (len(pages) - 1)
    assert [user for page in pages for user in page] == whole["items"]
    ids = [user["id"] for user in whole["items"]]
    assert ids == sorted(set(ids))
    assert len(ids) >= 6


async def test_list_users__exactly_one_page__has_no_next(reader: httpx2.AsyncClient) -> None:
    count = len((await reader.get("/api/v1/users")).json()["items"])

    assert (await reader.get("/api/v1/users", params={"limit": count})).json()["next_cursor"] is None


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": "MQ=="}, "cursor"),
        ({"cursor": "LTE"}, "cursor"),
        ({"cursor": "\x00"}, "cursor"),
        ({"cursor": "é"}, "cursor"),
        ({"cursor": "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"}, "cursor"),
    ],
)
async def test_list_users__bad_parameter__is_named(
    parameters: dict[str, str], named: str, reader: httpx2.AsyncClient
) -> None:
    problem = assert_problem(await reader.get("/api/v1/users", params=parameters), 422)

    assert [error["parameter"] for error in problem["errors"]] == [named]


# Change


async def test_change_user__some_fields__leaves_the_others(writer: httpx2.AsyncClient, bob: User) -> None:
    before = (await writer.get(f"/api/v1/users/{bob.pk}")).json()

    answer = await writer.patch(f"/api/v1/users/{bob.pk}", json={"display_name": "Robert"})

    assert answer.status_code == 200
    after = answer.json()
    assert after == {**before, "display_name": "Robert", "updated_at": after["updated_at"]}
    assert after["updated_at"] > before["updated_at"]
    assert (await writer.get(f"/api/v1/users/{bob.pk}")).json() == after


async def test_change_user__every_field__is_changed(writer: httpx2.AsyncClient, bob: User) -> None:
    changes = {"email": "Robert@Example.com", "display_name": "", "is_active": False}

    after = (await writer.patch(f"/api/v1/users/{bob.pk}", json=changes)).json()

    assert {name: after[name] for name in changes} == {**changes, "email": "robert@example.com"}


async def test_change_user__to_an_address_that_is_taken__conflicts(writer: httpx2.AsyncClient, bob: User) -> None:
    assert_problem(await writer.patch(f"/api/v1/users/{bob.pk}", json={"email": "ALICE@example.com"}), 409)

    own = await writer.patch(f"/api/v1/users/{bob.pk}", json={"email": "BOB@example.com"})
    assert own.status_code == 200, "one's own address is not taken"


async def test_change_user__unknown__is_not_found(writer: httpx2.AsyncClient) -> None:
    assert_problem(await writer.patch("/api/v1/users/999999", json={"display_name": "Nobody"}), 404)


async def test_change_user__anonymous_and_wrong_scope__may_not(
    client: httpx2.AsyncClient, alice: User, bob: User, issue_token: IssueToken
) -> None:
    path, changes = f"/api/v1/users/{bob.pk}", {"display_name": "Changed"}
    read_only = bearer(issue_token(alice, "users:read"))
    oneself = bearer(issue_token(bob))

    assert_problem(await client.patch(path, json=changes), 401)
    assert_problem(await client.patch(path, json=changes, headers=read_only), 403)
    assert_problem(await client.patch(path, json=changes, headers=oneself), 403)
    assert (await client.get(path, headers=read_only)).json()["display_name"] == "Bob"


# Deactivate


async def test_deactivate_user__stays_but_is_inactive(writer: httpx2.AsyncClient, bob: User) -> None:
    answer = await writer.delete(f"/api/v1/users/{bob.pk}")

    assert answer.status_code == 204
    assert answer.content == b""
    assert "content-type" not in answer.headers
    assert (await writer.get(f"/api/v1/users/{bob.pk}")).json()["is_active"] is False
    again = await writer.patch(f"/api/v1/users/{bob.pk}", json={"is_active": True})
    assert again.json()["is_active"] is True


async def test_deactivate_user__unknown_anonymous_or_wrong_scope__changes_nothing(
    client: httpx2.AsyncClient, alice: User, bob: User, issue_token: IssueToken
) -> None:
    assert_problem(await client.delete(f"/api/v1/users/{bob.pk}"), 401)
    assert_problem(
        await client.delete(f"/api/v1/users/{bob.pk}", headers=bearer(issue_token(alice, "users:read"))), 403
    )
    assert_problem(await client.delete("/api/v1/users/999999", headers=bearer(issue_token(alice, "users:write"))), 404)
    await bob.arefresh_from_db()
    assert bob.is_active


# Bad bodies


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["#/email"]),
        ({"email": None}, ["#/email"]),
        ({"email": "nobody"}, ["#/email"]),
        ({"email": "a\x00b@example.com"}, ["#/email"]),
        ({"email": f"{'x' * 300}@example.com"}, ["#/email"]),
        ({"email": "new@example.com", "display_name": "nul \x00 character"}, ["#/display_name"]),
        ({"email": "new@example.com", "display_name": "two\nlines"}, ["#/display_name"]),
        ({"email": "new@example.com", "display_name": "x" * 151}, ["#/display_name"]),
        ({"email": "new@example.com", "display_name": "\ud800"}, ["#/display_name"]),
        ({"email": "new@example.com", "display_name": 7}, ["#/display_name"]),
        ({"email": "new@example.com", "is_superuser": True, "a/b~c é": 1}, ["#/is_superuser", "#/a~1b~0c%20%C3%A9"]),
        ([], ["#"]),
        ("text", ["#"]),
        (None, ["#"]),
    ],
)
async def test_create_user__bad_field__is_named(
    body: object, pointers: list[str], writer: httpx2.AsyncClient, bob: User
) -> None:
    answer = await writer.post("/api/v1/users", content=json.dumps(body), headers={"content-type": "application/json"})

    problem = assert_problem(answer, 422)
    assert [error["pointer"] for error in problem["errors"]] == pointers
    assert (await writer.get("/api/v1/users", params={"cursor": "", "limit": 1})).status_code == 422
    assert not await User.objects.filter(email="new@example.com").aexists()


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        ('{"email": ', "application/json", 422),
        ("", "application/json", 422),
        ('{"email": "\udcff@example.com"}'.encode("utf-8", "surrogateescape"), "application/json", 400),
        ("[" * 100_000, "application/json", 400),
        ('{"email": "new@example.com"}', "text/plain", 415),
        ('{"email": "new@example.com"}', None, 415),
        ("email=new@example.com", "application/x-www-form-urlencoded", 415),
    ],
)
async def test_create_user__not_json__is_refused(
    content: str | bytes, content_type: str | None, status: int, writer: httpx2.AsyncClient
) -> None:
    headers = {"content-type": content_type} if content_type else {}

    assert_problem(await writer.post("/api/v1/users", content=content, headers=headers), status)


@pytest.mark.parametrize("value", ["yes", 1, None, []])
async def test_change_user__is_active_is_no_boolean__is_refused(
    value: object, writer: httpx2.AsyncClient, bob: User
) -> None:
    problem = assert_problem(await writer.patch(f"/api/v1/users/{bob.pk}", json={"is_active": value}), 422)

    assert [error["pointer"] for error in problem["errors"]] == ["#/is_active"]


# Addresses that are not there


@pytest.mark.parametrize("path", ["/api/nowhere", "/api/v1/", "/api/v2/users", "/api/v1/users/1/2"])
async def test_unknown_route__is_a_problem(path: str, client: httpx2.AsyncClient) -> None:
    assert_problem(await client.get(path), 404)


async def test_known_route__other_method__is_a_problem_that_says_what_is_allowed(client: httpx2.AsyncClient) -> None:
    answer = await client.put("/api/v1/users/1", json={})

    assert_problem(answer, 405)
    assert "GET" in answer.headers["allow"]
