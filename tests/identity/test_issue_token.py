"""``manage.py issue_token``: the token in hand, and the key behind it."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path

import httpx2
import pytest
from django.core.management import CommandError, call_command

from project.accounts.models import User
from project.config import Config, config
from project.identity.keys import signing_key
from tests.fixtures import bearer


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
    return issue("ALICE@example.com", "--scope", "users:read users:write")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nobody@example.com"], "there is no user with the e-mail address nobody@example.com"),
        (["alice@example.com", "--ttl", "0"], "--ttl takes a number of seconds above 0"),
        (["alice@example.com", "--ttl", "86401"], "the API takes no token that lives longer than 86400 seconds"),
        (["alice@example.com", "--scope", 'a"b'], 'not a scope: a"b'),
    ],
)
def test_issue_token__bad_input__is_one_plain_line(arguments: list[str], reason: str, alice: User) -> None:
    with pytest.raises(CommandError) as refusal:
        issue(*arguments)

    assert str(refusal.value) == reason


def test_issue_token__for_somebody_deactivated__is_refused(alice: User) -> None:
    User.objects.update(is_active=False)

    with pytest.raises(CommandError, match=r"^the user alice@example.com is deactivated$"):
        issue("alice@example.com")


def elsewhere(folder: Path) -> Config:
    return config.model_copy(update={"var_dir": folder / "var"})


def test_signing_key__first_use__is_made_for_its_owner_only(tmp_path: Path) -> None:
    there = elsewhere(tmp_path)

    key = signing_key(there)

    assert stat.S_IMODE(there.signing_key_file.stat().st_mode) == 0o600
    (published,) = json.loads(there.jwks_file.read_text())["keys"]
    assert published["kid"] == key.kid
    assert set(published) == {"kty", "n", "e", "use", "alg", "kid"}, "nothing of the private half"
    assert signing_key(there).kid == key.kid
    assert sorted(path.name for path in there.var_dir.iterdir()) == ["jwks.json", "signing_key.pem"]


def test_signing_key__many_ask_at_once__is_one(tmp_path: Path) -> None:
    there = elsewhere(tmp_path)

    with ThreadPoolExecutor(8) as threads:
        keys = list(threads.map(lambda _: signing_key(there).kid, range(8)))

    assert len(set(keys)) == 1
    assert json.loads(there.jwks_file.read_text())["keys"][0]["kid"] == keys[0]
