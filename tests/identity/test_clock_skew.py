"""The clock of the application is an hour ahead of the database's, or behind it: what is revoked stays the same."""

import asyncio
import datetime
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone
from joserfc.jws import extract_compact

from fastapi_app.core import revocation as view_module
from fastapi_app.core.claims import Claims
from fastapi_app.core.database import open_database
from fastapi_app.core.revocation import RevocationView
from fastapi_app.core.tokens import OwnSubjects
from project.accounts.models import User
from project.clients.models import Client
from project.config import config
from project.identity import keys, revocation
from tests.identity.flows import (
    SECRET,
    Browser,
    claims,
    is_active,
    log_in_at,
    machine_client,
    post,
    refresh,
)

pytestmark = pytest.mark.attack

SHORTEST_TTL_S = 600.0
"""What MAX_TOKEN_TTL_S may be: an hour's skew is far beyond it."""


def set_clock(monkeypatch: pytest.MonkeyPatch, ahead_s: float) -> None:
    """Let every clock that the application reads be ahead of the database's."""
    ahead, now = datetime.timedelta(seconds=ahead_s), time.time

    class Skewed(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return datetime.datetime.now(tz) + ahead

    monkeypatch.setattr(time, "time", lambda: now() + ahead_s)
    monkeypatch.setattr(timezone, "now", lambda: datetime.datetime.now(datetime.UTC) + ahead)
    module = type("datetime", (), {**vars(datetime), "datetime": Skewed})
    monkeypatch.setattr(view_module, "datetime", module)


@pytest.fixture(params=[3600.0, -3600.0], ids=["ahead", "behind"])
def skew(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    set_clock(monkeypatch, request.param)
    skew: float = request.param
    return skew


def is_refused(token: str) -> bool:
    """Whether a process of the API that starts now refuses ``token`` as revoked; introspection says the same."""
    kid = str(extract_compact(token.encode()).headers()["kid"])

    async def ask() -> bool:
        async with open_database(config) as database:
            view = RevocationView(database, remember_s=SHORTEST_TTL_S)
            await view.poll()
            subjects = OwnSubjects(max_ttl_s=config.max_token_ttl_s)
            credential = await subjects.credential(Claims(token_claims), expires_at=token_claims["exp"], kid=kid)
            return view.is_revoked(credential.revocable)

    token_claims = claims(token)
    is_refused_by_api = asyncio.run(ask())
    assert is_active(token) is not is_refused_by_api
    return is_refused_by_api


def of_machine() -> str:
    fields = {"client_id": "machine", "client_secret": SECRET}
    token: str = post("/o/token/", grant_type="client_credentials", **fields).json()["access_token"]
    return token


def stop() -> None:
    Client.objects.filter(client_id="machine").update(is_active=False)


def end() -> None:
    revocation.end_client(Client.objects.get(client_id="machine"), reason="test", with_log_ins=True)


@pytest.mark.parametrize("how", [stop, end])
def test_client__stopped__its_tokens_are_refused_and_those_after_its_return_are_good(
    how: Callable[[], None], skew: float, database: str
) -> None:
    machine_client()
    old = of_machine()
    assert not is_refused(old)

    how()
    assert is_refused(old)
    Client.objects.update(is_active=True)

    assert not is_refused(of_machine())
    assert is_refused(old)


def test_client__ended_by_a_process_with_another_clock__refuses_the_same_tokens(
    monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    machine_client()
    with monkeypatch.context() as ahead:
        set_clock(ahead, 3600)
        issued_ahead = of_machine()
    with monkeypatch.context() as behind:
        set_clock(behind, -3600)
        issued_behind = of_machine()
        end()

    new = of_machine()

    assert [is_refused(token) for token in (issued_ahead, new)] == [True, False]
    with monkeypatch.context() as behind:
        set_clock(behind, -3600)
        assert is_refused(issued_behind)


def new_password(user: User) -> None:
    user.set_password("another")
    user.save()


def deactivate_and_return(user: User) -> None:
    User.objects.update(is_active=False)
    User.objects.update(is_active=True, password=user.password)


@pytest.mark.parametrize("how", [new_password, deactivate_and_return, revocation.end_user])
def test_user__tokens_ended__are_refused_and_new_ones_are_good(
    how: Callable[[User], None], skew: float, browser: Browser, web: Client, reader: User
) -> None:
    old = log_in_at(web, browser)
    assert not is_refused(old["access_token"])

    how(User.objects.get(pk=reader.pk))

    assert is_refused(old["access_token"])
    assert refresh(web, old["refresh_token"]).status_code == 400
    reader.set_password("correct horse")
    reader.save()
    again = Browser()
    again.log_in()
    assert not is_refused(log_in_at(web, again)["access_token"])


def test_log_in__revoked__its_tokens_are_refused_and_a_new_one_is_good(
    skew: float, browser: Browser, web: Client
) -> None:
    old = log_in_at(web, browser)

    post("/o/revoke/", token=old["refresh_token"], client_id="web")

    assert is_refused(old["access_token"])
    assert not is_refused(log_in_at(web, browser)["access_token"])


def test_token__revoked__is_refused_alone(skew: float, database: str) -> None:
    machine_client()
    old, other = of_machine(), of_machine()

    post("/o/revoke/", token=old, client_id="machine", client_secret=SECRET)

    assert [is_refused(token) for token in (old, other)] == [True, False]


def test_signing_key__compromised__its_tokens_are_refused_and_the_next_ones_are_good(
    skew: float, database: str
) -> None:
    machine_client()
    old = of_machine()
    kid = str(extract_compact(old.encode()).headers()["kid"])
    old_claims = claims(old)

    keys.rotate(compromised=True)

    async def ask() -> bool:
        async with open_database(config) as opened:
            view = RevocationView(opened, remember_s=SHORTEST_TTL_S)
            await view.poll()
            subjects = OwnSubjects(max_ttl_s=config.max_token_ttl_s)
            credential = await subjects.credential(Claims(old_claims), expires_at=old_claims["exp"], kid=kid)
            return view.is_revoked(credential.revocable)

    assert asyncio.run(ask())
    assert not is_refused(of_machine())


def test_refresh_token__exchanged_by_a_process_with_another_clock__has_the_same_grace(
    monkeypatch: pytest.MonkeyPatch, browser: Browser, web: Client
) -> None:
    tokens = log_in_at(web, browser)
    with monkeypatch.context() as ahead:
        set_clock(ahead, 3600)
        second = refresh(web, tokens["refresh_token"])
    assert second.status_code == 200
    assert refresh(web, tokens["refresh_token"]).status_code == 200, "within the grace"

    monkeypatch.setattr("project.identity.validator.REFRESH_GRACE_S", 0)

    assert refresh(web, tokens["refresh_token"]).status_code == 400, "after it, though it was 'exchanged' in the future"
    assert refresh(web, second.json()["refresh_token"]).status_code == 400


def test_clean_up__with_a_wrong_clock__deletes_by_the_databases(skew: float, database: str) -> None:
    revocation.end_token("jti", reason="test")

    assert revocation.forget_old_events() == 0
