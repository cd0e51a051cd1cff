"""``manage.py issue_token``: the token in hand."""

from io import StringIO

import httpx2
import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command

from project.accounts.models import User
from tests.fixtures import bearer, give


def issue(*arguments: str) -> str:
    output = StringIO()
    call_command("issue_token", *arguments, stdout=output)
    return output.getvalue()


@pytest.mark.asyncio
async def test_issue_token__for_a_user__is_taken_by_the_api(client: httpx2.AsyncClient, alice_token: str) -> None:
    assert alice_token.count("\n") == 1, "the token alone, ready for $(...)"

    answer = await client.get("/api/v1/users/me", headers=bearer(alice_token.strip()))

    assert answer.json()["email"] == "alice@example.com"
    assert (await client.get("/api/v1/users", headers=bearer(alice_token.strip()))).status_code == 200


@pytest.fixture
def alice_token(alice: User) -> str:
    readers = Group.objects.create(name="readers")
    give(readers, "view_user")
    alice.groups.add(readers)
    give(alice, "add_user", "change_user")
    return issue("ALICE@example.com", "--scope", "users:read users:write")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nobody@example.com"], "there is no user with the e-mail address nobody@example.com"),
        (["alice@example.com", "--ttl", "0"], "--ttl takes a number of seconds above 0, and 86400 at most"),
        (["alice@example.com", "--ttl", "86401"], "--ttl takes a number of seconds above 0, and 86400 at most"),
        (["alice@example.com", "--scope", 'a"b'], 'not a scope: a"b'),
        (
            ["alice@example.com", "--scope", "users:read users:write"],
            "the user alice@example.com does not hold what this needs: users:write",
        ),
        (["alice@example.com", "--scope", "all"], "the user alice@example.com does not hold what this needs: all"),
    ],
)
def test_issue_token__bad_input__is_one_plain_line(arguments: list[str], reason: str, alice: User) -> None:
    give(alice, "view_user", "add_user")

    with pytest.raises(CommandError) as refusal:
        issue(*arguments)

    assert str(refusal.value) == reason


def test_issue_token__for_somebody_deactivated__is_refused(alice: User) -> None:
    User.objects.update(is_active=False)

    with pytest.raises(CommandError, match=r"^the user alice@example.com is deactivated$"):
        issue("alice@example.com")
