# ruff: noqa: RUF001  Characters that look alike are what this is about.
"""Guessing passwords: how often anybody may, by whatever spelling, and that it locks no owner out."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.core import signing
from django.db import connection
from django.http import HttpRequest
from django.test import RequestFactory, override_settings
from hypothesis import given
from hypothesis import strategies as st

from project.accounts.models import User
from project.addresses import looked_up
from project.identity import devices
from project.identity.devices import COOKIE, SALT
from project.identity.limits import SIGN_INS, SignIn, network
from project.identity.pages import LoginForm
from project.identity.revocation import end_user
from tests.fixtures import give
from tests.identity.flows import Browser

LOGIN = "/accounts/login/"


def browser_at(address: str, cookie: str | None = None) -> Browser:
    browser = Browser()
    browser.http.defaults["REMOTE_ADDR"] = address
    if cookie is not None:
        browser.http.cookies[COOKIE] = cookie
    return browser


def guess(browser: Browser, times: int, email: str = "alice@example.com", path: str = LOGIN) -> list[int]:
    page = browser.get(path)
    return [browser.submit(path, page, username=email, password=f"wrong {n}").status_code for n in range(times)]


def attacked() -> None:
    """Wrong passwords for Alice, each from another network, until her account has taken all that it takes."""
    guesser = Browser()
    page = guesser.get(LOGIN)
    for number in range(110):  # Some more than the limit, because its window slides.
        guesser.http.defaults["REMOTE_ADDR"] = f"198.51.100.{number}"
        answer = guesser.submit(LOGIN, page, username="alice@example.com", password="wrong")
        if answer.status_code == 429:
            break
    assert answer.status_code == 429
    assert number >= 98, "one of the hundred may have been the owner's"


def device_of(browser: Browser) -> str:
    """The cookie that a browser keeps when it has signed in, and signed out again."""
    assert browser.log_in().status_code == 302
    cookie: str = browser.http.cookies[COOKIE].value
    browser.submit("/accounts/logout/")
    return cookie


# One account by whatever spelling


@pytest.mark.attack
@pytest.mark.parametrize("path", SIGN_INS)
def test_guesses__each_in_another_spelling__count_for_one_account(path: str, reader: User) -> None:
    letters = {"a": "aAａＡⓐ𝐚", "l": "lLｌＬⓛ𝐥", "i": "iIｉＩⓘİ"}
    spellings = [
        f" {a}{el}{i}ce{at}Example{dot}com "
        for a in letters["a"] for el in letters["l"] for i in letters["i"] for at in "@＠" for dot in ".。"
    ][::8]  # fmt: skip
    browser = browser_at("192.0.2.1")
    page = browser.get(path)

    answers = [
        browser.submit(path, page, username=spelling, password="wrong").status_code for spelling in spellings[:12]
    ]

    assert len(set(spellings)) > 12
    assert answers == [200] * 10 + [429] * 2


@pytest.mark.attack
@pytest.mark.parametrize(
    "spelling", ["ａｌｉｃｅ@example.com", "ALICE＠EXAMPLE．COM", "alice@example。com", "ALİCE@example.com"]
)
def test_sign_in__by_another_spelling__is_counted_for_the_account_that_it_reaches(spelling: str, reader: User) -> None:
    browser = browser_at("192.0.2.1")
    guess(browser, 10)

    assert browser.log_in(spelling).status_code == 429
    assert browser_at("192.0.2.2").log_in(spelling).status_code == 302


@given(st.text(max_size=300) | st.builds("{}@{}".format, st.text(max_size=10), st.text(max_size=10)))
def test_sign_in__any_text__is_looked_up_as_it_is_counted(typed: str) -> None:
    posted = RequestFactory().post(LOGIN, {"username": typed})
    form = LoginForm(data=posted.POST)
    form.errors  # noqa: B018  It validates.

    signed_in_as = form.cleaned_data.get("username") if hasattr(form, "cleaned_data") else None

    if signed_in_as is not None:
        assert looked_up(signed_in_as) == SIGN_INS[LOGIN].address(posted)


# The owner is not locked out


@pytest.mark.attack
def test_owner__hundred_guesses_from_everywhere__signs_in_from_a_known_device(reader: User) -> None:
    cookie = device_of(browser_at("192.0.2.7"))
    attacked()

    assert browser_at("203.0.113.9").log_in().status_code == 429, "a device that nobody knows has to wait"
    assert browser_at("203.0.113.9", cookie).log_in().status_code == 302


@pytest.mark.attack
def test_owner__hundred_guesses_from_everywhere__signs_in_from_a_known_network(reader: User) -> None:
    device_of(browser_at("192.0.2.7"))
    attacked()

    assert browser_at("192.0.2.7").log_in().status_code == 302


@pytest.mark.attack
def test_owner__guesses_and_forged_forms_from_the_same_network__signs_in_from_a_known_device(reader: User) -> None:
    cookie = device_of(browser_at("192.0.2.7"))
    neighbour = browser_at("192.0.2.7")
    assert 429 in guess(neighbour, 31)
    for _ in range(61):
        neighbour.http.post("/accounts/logout/"), neighbour.http.post(LOGIN, {"username": "x", "password": "y"})

    assert browser_at("192.0.2.7").log_in().status_code == 429
    assert browser_at("192.0.2.7", cookie).log_in().status_code == 302


@pytest.mark.attack
def test_account__guessed_at_from_one_network_for_long__is_not_used_up_for_others(reader: User) -> None:
    for host in range(1, 3):
        page = browser_at(f"2001:db8::{host}")
        guess(page, 60)

    assert browser_at("203.0.113.9").log_in().status_code == 302


@pytest.mark.attack
def test_account__guessed_at_from_many_networks__is_refused_to_all_that_it_does_not_know(reader: User) -> None:
    attacked()

    assert guess(browser_at("203.0.113.9"), 1) == [429]
    assert guess(browser_at("203.0.113.9"), 1, "nobody@example.com") == [200]


def test_network__ipv4_in_ipv6__is_the_ipv4_address() -> None:
    mapped, plain = (RequestFactory(REMOTE_ADDR=address).get("/") for address in ("::ffff:192.0.2.1", "192.0.2.1"))

    assert network(mapped) == network(plain) == "192.0.2.1"


# The cookie is no key


@pytest.mark.attack
@pytest.mark.parametrize(
    "typed", ["alice\x00@example.com", "\x00", "a" * 5000, "a@" + "\u0149" * 3000, "\ufffd@example.com"]
)
def test_guess__from_a_known_device_by_what_no_column_takes__is_refused_as_a_strangers(
    typed: str, reader: User
) -> None:
    browser = browser_at("192.0.2.7", device_of(browser_at("192.0.2.7")))

    assert browser.log_in(typed).status_code == browser_at("192.0.2.8").log_in(typed).status_code < 500


@pytest.mark.attack
def test_device__wrong_passwords__has_a_limit_of_its_own_wherever_it_goes(reader: User) -> None:
    cookie = device_of(browser_at("192.0.2.7"))

    answers = [guess(browser_at(f"203.0.113.{n}", cookie), 1)[0] for n in range(12)]

    assert answers == [200] * 10 + [429] * 2
    assert browser_at("203.0.113.99").log_in().status_code == 302, "what the device used up is not the account's"


@pytest.mark.attack
def test_device__signs_in_between_its_guesses__is_counted_on(reader: User) -> None:
    browser = browser_at("192.0.2.7", device_of(browser_at("192.0.2.7")))
    guess(browser, 5)
    browser.log_in()
    browser.submit("/accounts/logout/")

    assert guess(browser, 5) == [200] * 4 + [429]


@pytest.mark.attack
def test_device__of_another_account__is_a_stranger_to_this_one(reader: User, bob: User) -> None:
    mallory = browser_at("198.51.100.200")
    assert mallory.log_in(bob.email, "battery staple").status_code == 302
    cookie = mallory.http.cookies[COOKIE].value
    attacked()

    assert guess(browser_at("203.0.113.9", cookie), 1) == [429]


def password_changes(user: User) -> None:
    user.set_password("correct horse")
    user.save()


def address_goes_to_somebody_else(user: User) -> None:
    User.objects.filter(pk=user.pk).update(email="former@example.com")
    give(User.objects.create_user("alice@example.com", "correct horse"), "view_user")


@pytest.mark.attack
@pytest.mark.parametrize("change", [password_changes, address_goes_to_somebody_else])
def test_device__known_before_a_change__is_a_stranger_afterwards(change: Callable[[User], None], reader: User) -> None:
    cookie = device_of(browser_at("192.0.2.7"))
    change(reader)
    attacked()

    assert browser_at("203.0.113.9", cookie).log_in().status_code == 429


def permission_is_given(user: User) -> None:
    give(user, "add_user")


def leaves_and_comes_back(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)
    User.objects.filter(pk=user.pk).update(is_active=True)


@pytest.mark.attack
@pytest.mark.parametrize("change", [permission_is_given, leaves_and_comes_back, end_user])
def test_device__tokens_ended_by_something_else_than_a_password__is_still_known(
    change: Callable[[User], None], reader: User
) -> None:
    cookie = device_of(browser_at("192.0.2.7"))
    before = User.objects.get(pk=reader.pk).token_version
    change(reader)
    attacked()

    assert User.objects.get(pk=reader.pk).token_version > before
    assert browser_at("203.0.113.9", cookie).log_in().status_code == 302


def forged(entries: Any) -> str:
    return signing.dumps(entries, key="another secret", salt=SALT)


@pytest.mark.attack
@pytest.mark.parametrize(
    "make",
    [
        lambda user: forged([(user.pk, user.password_version, "x")]),
        lambda user: signing.dumps([(user.pk, user.password_version, "x")], salt="another"),
        lambda user: signing.dumps({"user": user.pk}, salt=SALT),
        lambda user: signing.dumps([[user.pk]], salt=SALT),
        lambda user: signing.dumps([(str(user.pk), str(user.password_version), "x")], salt=SALT),
        lambda _user: "x" * 100_000,
        lambda _user: "nonsense:at:all",
        lambda _user: "é",
    ],
)
def test_device__forged_or_broken__is_a_stranger(make: Callable[[User], str], reader: User) -> None:
    cookie = make(User.objects.get(pk=reader.pk))
    attacked()

    assert browser_at("203.0.113.9", cookie).log_in().status_code == 429


@pytest.mark.attack
def test_device__forgotten_for_long__is_a_stranger(reader: User, monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = device_of(browser_at("192.0.2.7"))
    monkeypatch.setattr(devices, "KEPT_S", -1)
    attacked()

    assert browser_at("203.0.113.9", cookie).log_in().status_code == 429


def test_device__of_a_family__knows_the_last_five_who_signed_in(reader: User) -> None:
    browser = browser_at("192.0.2.7")
    for number in range(7):
        User.objects.create_user(f"user{number}@example.com", "correct horse")
        assert browser.log_in(f"user{number}@example.com").status_code == 302
        browser.submit("/accounts/logout/")

    kept = signing.loads(browser.http.cookies[COOKIE].value, salt=SALT)

    newest = User.objects.order_by("-pk").values_list("pk", flat=True)[:5]
    assert [entry[0] for entry in kept] == list(newest)


@pytest.mark.parametrize("path", SIGN_INS)
@pytest.mark.parametrize("is_secure", [True, False])
def test_device__signed_in__is_remembered_by_a_cookie_that_no_script_reads(
    path: str, is_secure: bool, reader: User
) -> None:
    User.objects.filter(pk=reader.pk).update(is_staff=True)
    browser = Browser()
    with override_settings(SESSION_COOKIE_SECURE=is_secure):
        browser.submit(path, username=reader.email, password="correct horse", next="/")

    cookie = browser.http.cookies[COOKIE]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert bool(cookie["secure"]) == is_secure
    assert cookie["max-age"] == devices.KEPT_S
    assert COOKIE not in guessed_cookies(path)


def guessed_cookies(path: str) -> set[str]:
    browser = browser_at("192.0.2.8")
    guess(browser, 1, path=path)
    return set(browser.http.cookies)


def test_device__hash_renewed_at_sign_in__is_known_all_the_same(reader: User) -> None:
    hashers = ["django.contrib.auth.hashers.PBKDF2PasswordHasher", *settings.PASSWORD_HASHERS]
    with override_settings(PASSWORD_HASHERS=hashers):
        cookie = device_of(browser_at("192.0.2.7"))
    request = RequestFactory().post(LOGIN, {"username": reader.email})
    request.COOKIES[COOKIE] = cookie

    assert User.objects.get(pk=reader.pk).password.startswith("pbkdf2_sha256$")
    assert SIGN_INS[LOGIN].device(request)


def test_guess__without_a_signed_cookie__costs_no_query(reader: User, django_queries: list[str]) -> None:
    request = RequestFactory().post(LOGIN, {"username": reader.email})
    request.COOKIES[COOKIE] = forged([(reader.pk, 0, "x")])

    assert SIGN_INS[LOGIN].device(request) is None
    assert django_queries == []


@pytest.fixture
def django_queries() -> Any:
    queries: list[str] = []

    def note(execute: Any, sql: str, *arguments: Any) -> Any:
        queries.append(sql)
        return execute(sql, *arguments)

    with connection.execute_wrapper(note):
        yield queries


# A form whose field has another name


def test_form__posts_no_address__shares_no_count_with_others() -> None:
    """A team that puts another sign-in page at the address, and forgets to name its field, locks nobody out."""
    sign_in, request = SignIn("username"), RequestFactory().post(LOGIN, {"login": "alice@example.com"})

    named = {limit.name for limit in sign_in.limits if limit.whose(request) is not None}

    assert named == {"sign-in from"}
    assert SignIn("login").account(request) == account_of("alice@example.com")


def account_of(address: str) -> str | None:
    return SignIn("username").account(RequestFactory().post(LOGIN, {"username": address}))


def test_address__of_megabytes__is_counted_by_its_beginning() -> None:
    request: HttpRequest = RequestFactory().post(LOGIN, {"username": "é" * 1_000_000})

    assert len(SIGN_INS[LOGIN].address(request)) < 2000


def test_refusal__names_the_limit_in_the_log_and_nothing_typed(reader: User, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        guess(browser_at("192.0.2.1"), 11)

    assert "too many attempts (sign-in as, from)" in caplog.text
    assert "alice" not in caplog.text
