"""The same code, refresh token or first key, asked for by many at once: threads here, and real server processes."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.db import connections
from oauth2_provider.models import get_device_grant_model, get_refresh_token_model

from project.accounts.models import User
from project.clients.models import Client
from project.config import config
from project.identity.keys import rotate, signing_key
from project.identity.models import SigningKey
from tests.asgi.server import PATIENCE_S, Server, serving
from tests.identity.flows import (
    CALLBACK,
    DEVICE_CODE,
    Browser,
    Verifier,
    claims,
    exchange,
    get_code,
    is_active,
    log_in_at,
    post,
    refresh,
    web_client,
)

AT_ONCE = 8

AskAtOnce = Callable[[dict[str, str]], list[tuple[int, dict[str, Any]]]]


def at_once[T](work: Callable[[int], T], threads: int = AT_ONCE) -> list[T]:
    """Threads, each with a connection of its own, let go at the same moment."""
    barrier = threading.Barrier(threads)

    def run(number: int) -> T:
        try:
            barrier.wait()
            return work(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


@pytest.fixture(scope="module")
def servers(migrated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Two processes on the database under test."""
    folder: Path = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:
        yield [
            stack.enter_context(serving(folder / f"log-{number}", env={"DATABASE_URL": config.database}))
            for number in range(2)
        ]


@pytest.fixture(params=["threads", "processes"])
def ask_at_once(request: pytest.FixtureRequest) -> AskAtOnce:
    """Post the same to the token endpoint, eight times at once."""
    if request.param == "threads":

        def in_threads(fields: dict[str, str]) -> list[tuple[int, dict[str, Any]]]:
            answers = at_once(lambda _number: post("/o/token/", **fields))
            return [(answer.status_code, answer.json()) for answer in answers]

        return in_threads
    servers: list[Server] = request.getfixturevalue("servers")

    def in_processes(fields: dict[str, str]) -> list[tuple[int, dict[str, Any]]]:
        def ask(number: int) -> httpx2.Response:
            return httpx2.post(f"{servers[number % 2].url}/o/token/", data=fields, timeout=PATIENCE_S)

        return [(answer.status_code, answer.json()) for answer in at_once(ask)]

    return in_processes


def test_code__redeemed_eight_times_at_once__is_taken_once(
    ask_at_once: AskAtOnce, browser: Browser, web: Client
) -> None:
    pkce = Verifier()
    code = get_code(browser, web, pkce)

    answers = ask_at_once(
        {
            "grant_type": "authorization_code",
            "client_id": "web",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": pkce.verifier,
        }
    )

    assert Counter(status for status, _body in answers) == {200: 1, 400: 7}
    assert {body.get("error") for _status, body in answers} == {None, "invalid_grant"}
    (given,) = [body for status, body in answers if status == 200]
    assert not is_active(given["access_token"]), "seven replays: somebody has copied the code"
    assert refresh(web, given["refresh_token"]).status_code == 400


def test_refresh__eight_times_at_once__logs_nobody_out(ask_at_once: AskAtOnce, browser: Browser, web: Client) -> None:
    tokens = log_in_at(web, browser)

    answers = ask_at_once({"grant_type": "refresh_token", "client_id": "web", "refresh_token": tokens["refresh_token"]})

    assert [status for status, _body in answers] == [200] * AT_ONCE
    families = {claims(body["access_token"])["family"] for _status, body in answers}
    assert families == {claims(tokens["access_token"])["family"]}
    assert all(is_active(body["access_token"]) for _status, body in answers)
    assert [refresh(web, body["refresh_token"]).status_code for _status, body in answers] == [200] * AT_ONCE
    assert get_refresh_token_model().objects.values("token_family").distinct().count() == 1


def test_device_code__polled_eight_times_at_once__gives_one_token(
    ask_at_once: AskAtOnce, reader: User, database: str
) -> None:
    television = web_client("tv", authorization_grant_type=DEVICE_CODE)
    device = post("/o/device-authorization/", client_id=television.client_id).json()
    get_device_grant_model().objects.update(user=reader, status="authorized", interval=0)

    answers = ask_at_once({"grant_type": DEVICE_CODE, "client_id": "tv", "device_code": device["device_code"]})

    assert Counter(status for status, _body in answers) == {200: 1, 400: 7}


def test_code_and_logout__at_once__leave_nothing_alive(browser: Browser, web: Client) -> None:
    pkce = Verifier()
    code = get_code(browser, web, pkce)
    page = browser.get("/accounts/logout/")

    def log_out_or_exchange(number: int) -> Any:
        return exchange(web, code, pkce) if number else browser.submit("/accounts/logout/", page)

    _page, answer = at_once(log_out_or_exchange, 2)

    if answer.status_code == 200:
        tokens = answer.json()
        assert not is_active(tokens["access_token"])
        assert refresh(web, tokens["refresh_token"]).status_code == 400


def test_rotation__one_process_makes_the_key__the_others_publish_it_at_once(
    servers: list[Server], database: str
) -> None:
    signing_key()

    new = rotate().kid

    for server in servers:
        keys = httpx2.get(f"{server.url}/.well-known/jwks.json", timeout=PATIENCE_S).json()["keys"]
        assert new in {key["kid"] for key in keys}


def test_first_key__needed_by_many_at_once__is_one(database: str) -> None:
    SigningKey.objects.all().delete()

    kids = at_once(lambda _number: signing_key().kid)

    assert len(set(kids)) == 1
    assert SigningKey.objects.count() == 1
