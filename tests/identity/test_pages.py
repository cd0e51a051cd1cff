"""The pages for people: signing in and out, and what attackers try there."""

import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from project.accounts.models import User
from project.clients.models import Client
from project.identity import hashers
from project.identity.limits import LIMITS, Limiter
from tests.asgi.test_requests import until
from tests.fixtures import absent
from tests.identity.flows import Browser, is_active, log_in_at, refresh


def text(answer: Any) -> str:
    return str(answer.content.decode())


# Signing in


def test_login__right__goes_where_it_was_asked_to(reader: User) -> None:
    browser = Browser()

    answer = browser.submit("/accounts/login/?next=/device/", username="ALICE@example.com", password="correct horse")

    assert answer["Location"] == "/device/"
    assert "signed in as alice@example.com" in text(browser.get("/"))


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example.com/",
        "//evil.example.com/",
        "///evil.example.com/",
        "/\\evil.example.com/",
        "https:evil.example.com",
        "javascript:alert(1)",
        "http://testserver@evil.example.com/",
        "\x00//evil.example.com/",
        " //evil.example.com/",
    ],
)
def test_login__next_leads_elsewhere__is_ignored(target: str, reader: User) -> None:
    browser = Browser()

    answer = browser.submit("/accounts/login/", username=reader.email, password="correct horse", next=target)

    if "\x00" in target:
        assert answer.status_code == 400
    else:
        assert answer["Location"] == settings.LOGIN_REDIRECT_URL


def test_login__wrong__says_the_same_of_everybody(reader: User, bob: User) -> None:
    User.objects.filter(email=bob.email).update(is_active=False)
    attempts = {
        "wrong password": (reader.email, "wrong"),
        "nobody": ("nobody@example.com", "wrong"),
        "deactivated": (bob.email, "battery staple"),
    }

    pages = {name: Browser().log_in(*attempt) for name, attempt in attempts.items()}

    for (email, _password), page in zip(attempts.values(), pages.values(), strict=True):
        assert page.status_code == 200
        assert "This e-mail address and password do not belong together." in text(page)
        assert email in text(page)


def test_login__unknown_address__takes_as_long_as_a_known_one(database: str) -> None:
    with override_settings(PASSWORD_HASHERS=["project.identity.hashers.BoundedArgon2PasswordHasher"]):
        User.objects.create_user("known@example.com", "correct horse")
        User.objects.create_user("passwordless@example.com")

        browser = Browser()
        page = browser.get("/accounts/login/")

        def seconds_of(name: str) -> float:
            began = time.process_time()  # Other work on the machine must not count.
            browser.submit("/accounts/login/", page, username=f"{name}@example.com", password="wrong")
            return time.process_time() - began

        names = ("known", "unknown", "passwordless")
        rounds = [[seconds_of(name) for name in names] for _ in range(5)]  # In turn, because machines change speed.
        known, unknown, passwordless = (statistics.median(times) for times in zip(*rounds, strict=True))

    assert 0.5 < unknown / known < 2
    assert 0.5 < passwordless / known < 2


def test_login__session_planted_before__is_not_the_one_that_is_logged_in(reader: User) -> None:
    browser = Browser()
    browser.http.session["planted"] = True
    session = browser.http.session
    session["planted"] = True
    session.save()
    planted = browser.http.cookies[settings.SESSION_COOKIE_NAME].value

    browser.log_in()

    assert browser.http.cookies[settings.SESSION_COOKIE_NAME].value != planted
    attacker = Browser()
    attacker.http.cookies[settings.SESSION_COOKIE_NAME] = planted
    assert "signed in as" not in text(attacker.get("/"))
    assert browser.http.cookies[settings.SESSION_COOKIE_NAME]["httponly"]


def test_login__forged_by_another_site__is_refused(reader: User) -> None:
    answer: Any = Browser().http.post("/accounts/login/", {"username": reader.email, "password": "correct horse"})

    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/accounts/login/", "/admin/login/"])
@pytest.mark.parametrize("email", ["alice@example.com", "nobody@example.com"])
def test_login__guessed_too_often__is_refused_for_a_while(path: str, email: str, reader: User) -> None:
    browser = Browser()
    page = browser.get(path)

    answers = [browser.submit(path, page, username=email, password="wrong") for _ in range(11)]

    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert "Too many attempts" in text(answers[-1])
    assert int(answers[-1]["Retry-After"]) == 300
    right = browser.submit(path, page, username=reader.email, password="correct horse")
    assert (right.status_code == 429) == (email == reader.email)


def test_login__from_elsewhere__is_not_locked_out_by_guesses(reader: User) -> None:
    guesser = Browser()
    page = guesser.get("/accounts/login/")
    for _ in range(11):
        guesser.submit("/accounts/login/", page, username=reader.email, password="wrong")

    owner = Browser()
    owner.http.defaults["REMOTE_ADDR"] = "192.0.2.7"

    assert owner.log_in().status_code == 302


def test_login__too_many_hashes_at_once__is_busy_and_not_broken(reader: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashers, "WAIT_S", 0.05)
    with (
        override_settings(PASSWORD_HASHERS=["project.identity.hashers.BoundedArgon2PasswordHasher"]),
        hashers._turn(),
        hashers._turn(),
    ):
        answer = Browser().log_in()

    assert answer.status_code == 503
    assert answer["Retry-After"] == "2"


def test_limiter__redis_is_away__counts_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    alone = Limiter("redis://127.0.0.1:1/0")
    limit = LIMITS["/accounts/login/"][1]

    assert [alone.count(limit, "x") for _ in range(11)] == [True] * 10 + [False]
    assert "counted by each process for itself" in caplog.text


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis of this test's own."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        absent("no Redis")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen([str(program), *options], stdout=subprocess.DEVNULL) as server:
        try:
            until(lambda: is_open(port))
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_limiter__with_redis__counts_for_all_processes_together(redis_url: str) -> None:
    limit = LIMITS["/accounts/login/"][1]
    first, second = Limiter(redis_url), Limiter(redis_url)

    assert [first.count(limit, "x") for _ in range(6)] == [True] * 6
    assert [second.count(limit, "x") for _ in range(6)] == [True] * 4 + [False] * 2
    assert not first.allows(limit, "x")
    assert first.allows(limit, "somebody else")


def test_limiter__with_redis__knows_a_network_in_every_process(redis_url: str) -> None:
    first, second = Limiter(redis_url), Limiter(redis_url)

    first.remember("192.0.2.1 account")

    assert second.knows("192.0.2.1 account")
    assert not second.knows("192.0.2.2 account")


def test_limiter__redis_is_away__knows_the_networks_of_its_own_process() -> None:
    alone = Limiter("redis://127.0.0.1:1/0")

    alone.remember("192.0.2.1 account")

    assert alone.knows("192.0.2.1 account")


# Signing out


def test_logout_page__asks_first(browser: Browser) -> None:
    assert "Sign out?" in text(browser.get("/accounts/logout/"))
    assert "signed in as alice@example.com" in text(browser.get("/"))

    assert browser.http.post("/accounts/logout/").status_code == 403, "a forged form signs nobody out"
    assert "You are signed out" in text(browser.submit("/accounts/logout/"))
    assert "signed in as" not in text(browser.get("/"))


@pytest.fixture
def leaving(web: Client) -> Client:
    Client.objects.update(post_logout_redirect_uris="https://app.example.com/bye")
    return web


def test_client_logout__with_the_id_token__ends_its_log_in_and_goes_back(browser: Browser, leaving: Client) -> None:
    tokens = log_in_at(leaving, browser)
    query = {
        "id_token_hint": tokens["id_token"],
        "post_logout_redirect_uri": "https://app.example.com/bye",
        "state": "s",
    }

    page = browser.get("/o/logout/", **query)
    assert "The web app" in text(page)
    answer = browser.submit("/o/logout/", page, allow="true")

    assert answer["Location"] == "https://app.example.com/bye?state=s"
    assert not is_active(tokens["access_token"])
    assert refresh(leaving, tokens["refresh_token"]).status_code == 400
    assert "signed in as" not in text(browser.get("/"))
    elsewhere = Browser().get("/o/logout/", **query)
    assert elsewhere["Location"] == "https://app.example.com/bye?state=s", "there is nothing to ask"


def test_client_logout__declined__changes_nothing(browser: Browser, leaving: Client) -> None:
    tokens = log_in_at(leaving, browser)

    answer = browser.submit("/o/logout/", browser.get("/o/logout/", id_token_hint=tokens["id_token"]))

    assert answer["Location"] == "/"
    assert is_active(tokens["access_token"])
    assert "signed in as" in text(browser.get("/"))


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example.com/",
        "https://app.example.com/bye/more",
        "https://app.example.com/bye?x=1",
        "//app.example.com/bye",
        "javascript:alert(1)",
    ],
)
def test_client_logout__to_an_address_not_registered__goes_nowhere(uri: str, browser: Browser, leaving: Client) -> None:
    tokens = log_in_at(leaving, browser)
    for query in (
        {"id_token_hint": tokens["id_token"]},
        {"client_id": "web"},
        {"client_id": "nobody"},
        {},
    ):
        answer = browser.get("/o/logout/", post_logout_redirect_uri=uri, **query)
        assert answer.status_code == 400
        assert "Location" not in answer
    forged = browser.submit("/o/logout/", browser.get("/accounts/logout/"), allow="true", post_logout_redirect_uri=uri)
    assert forged.status_code == 400
    assert "signed in as" in text(browser.get("/"))


def test_client_logout__id_token_of_another_client_or_no_id_token__is_refused(
    browser: Browser, leaving: Client
) -> None:
    tokens = log_in_at(leaving, browser)

    assert browser.get("/o/logout/", id_token_hint=tokens["id_token"], client_id="other").status_code == 400
    assert browser.get("/o/logout/", id_token_hint=tokens["access_token"]).status_code == 400
    assert browser.get("/o/logout/", id_token_hint="nonsense").status_code == 400
    assert is_active(tokens["access_token"])
