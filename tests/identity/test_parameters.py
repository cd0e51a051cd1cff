"""The parameters of requests: empty, repeated, unknown, malformed, by GET and by POST; none of them stops a view."""

import json
import secrets
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

import pytest
from django.core.exceptions import ValidationError
from django.test import Client as DjangoClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oauth2_provider.models import get_grant_model

from project.accounts.models import User
from project.clients.models import Client
from project.identity.parameters import AUTHORIZATION, KNOWN, LOGOUT, TOKEN
from tests.identity.flows import (
    CALLBACK,
    DEVICE_CODE,
    SECRET,
    Browser,
    Verifier,
    authorize_path,
    get_code,
    log_in_at,
    machine_client,
    post,
    refresh,
    sent_back,
    web_client,
)

ISSUER = "http://127.0.0.1:8000"
FORM = "application/x-www-form-urlencoded"
MACHINE_PATHS = ["/o/token/", "/o/revoke/", "/o/introspect/", "/o/device-authorization/"]
IGNORED_HERE = frozenset({"resource"})
"""Parameters with rules and tests of their own."""


# Unknown scopes


@pytest.mark.parametrize("scope", ["openid offline_access", "offline_access openid", "openid  x:y openid", 'openid "'])
def test_authorize__unknown_scopes__are_ignored(scope: str, browser: Browser, web: Client) -> None:
    tokens = log_in_at(web, browser, scope=scope)

    assert tokens["scope"] == "openid"
    assert refresh(web, tokens["refresh_token"], scope=scope).json()["scope"] == "openid"


@pytest.mark.parametrize("scope", ["offline_access", "x y", "%20"])
def test_authorize__unknown_scopes_only__are_not_a_request_for_all(scope: str, browser: Browser, web: Client) -> None:
    assert sent_back(browser.get(authorize_path(web, Verifier(), scope=scope)))["error"] == "invalid_scope"
    tokens = log_in_at(web, browser)
    assert refresh(web, tokens["refresh_token"], scope=scope).json()["error"] == "invalid_scope"


def test_scope__known_but_not_the_clients__is_refused(browser: Browser, reader: User) -> None:
    narrow = web_client("narrow", scopes="openid")

    path = authorize_path(narrow, Verifier(), scope="openid users:read")

    assert sent_back(browser.get(path))["error"] == "invalid_scope"


def test_device_and_machine__unknown_scopes__are_ignored(database: str) -> None:
    web_client("tv", scopes="openid", authorization_grant_type=DEVICE_CODE, redirect_uris="")
    machine_client()

    def begin(scope: str) -> Any:
        return post("/o/device-authorization/", client_id="tv", scope=scope)

    def ask(scope: str) -> Any:
        return post(
            "/o/token/", grant_type="client_credentials", client_id="machine", client_secret=SECRET, scope=scope
        )

    assert begin("openid offline_access").status_code == 200
    assert ask("offline_access users:read").json()["scope"] == "users:read"
    for refused in (begin("offline_access"), begin("users:read"), ask("offline_access"), ask("users:write")):
        assert refused.json()["error"] == "invalid_scope"


# Empty and repeated parameters


@pytest.mark.parametrize(
    "name", sorted(AUTHORIZATION - {"response_type", "client_id", "redirect_uri", "scope", "state", "resource"})
)
def test_authorize__empty_parameter__counts_as_omitted(name: str, browser: Browser, web: Client) -> None:
    needed = name in {"code_challenge", "code_challenge_method"}
    path = authorize_path(web, Verifier(), **({name: ""} if needed else {})) + f"&{name}="

    answer = browser.get(path)

    assert sent_back(answer)["error"] == "invalid_request" if needed else answer.status_code == 200


def test_authorize__empty_scope_state_and_redirect_uri__are_omitted(browser: Browser, web: Client) -> None:
    path = authorize_path(web, Verifier(), scope="", state="", redirect_uri="") + "&scope=&state=&redirect_uri="

    answer = sent_back(browser.submit(path, decision="allow"))

    assert "state" not in answer
    assert get_grant_model().objects.get().redirect_uri == CALLBACK


def test_programs__empty_parameters__count_as_omitted(browser: Browser, web: Client, reader: User) -> None:
    pkce = Verifier()
    code = get_code(browser, web, pkce)
    machine_client(may_introspect=True)
    web_client("tv", authorization_grant_type=DEVICE_CODE, redirect_uris="")
    empty = dict.fromkeys(sorted(TOKEN), "")

    def send(path: str, **fields: str) -> Any:
        return post(path, **{**empty, **fields})

    tokens = send(
        "/o/token/",
        grant_type="authorization_code",
        client_id="web",
        code=code,
        redirect_uri=CALLBACK,
        code_verifier=pkce.verifier,
    ).json()
    again = send("/o/token/", grant_type="refresh_token", client_id="web", refresh_token=tokens["refresh_token"])
    assert again.json()["scope"] == "openid users:read"
    asked = send("/o/introspect/", client_id="machine", client_secret=SECRET, token=tokens["access_token"])
    assert asked.json()["active"] is True
    assert send("/o/device-authorization/", client_id="tv").status_code == 200
    assert send("/o/revoke/", client_id="web", token=tokens["access_token"]).status_code == 200
    assert send("/o/revoke/", client_id="web").json()["error"] == "invalid_request"


def test_log_out__empty_parameters__count_as_omitted(browser: Browser, web: Client) -> None:
    assert browser.get("/o/logout/", **dict.fromkeys(sorted(LOGOUT), "")).status_code == 200


@pytest.mark.parametrize("name", ["nonce", "code_challenge", "prompt", "max_age", "claims", "id_token_hint"])
def test_authorize__repeated_parameter__is_told_to_the_client(name: str, browser: Browser, web: Client) -> None:
    answer = sent_back(browser.get(f"{authorize_path(web, Verifier())}&{name}=a&{name}=b"))

    assert answer["error"] in {"invalid_request", "login_required"}
    assert answer["state"] == "a-state"


@pytest.mark.parametrize("path", MACHINE_PATHS)
def test_programs__repeated_parameter__is_refused(path: str, database: str) -> None:
    for name in TOKEN - IGNORED_HERE:
        answer: Any = DjangoClient().post(path, f"{name}=a&{name}=b", FORM)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request"), name


def test_unknown_parameters__repeated_or_named_like_attributes__are_ignored(browser: Browser, web: Client) -> None:
    strange = "&x=1&x=2&client=1&user=1&scopes=1&headers=1&body=1&request_info=1&_params=1&refresh_token_instance=1"
    pkce = Verifier()

    answer = browser.submit(authorize_path(web, pkce) + strange, decision="allow")
    code = sent_back(answer)["code"]
    body = dict(parse_qsl(strange)) | {
        "grant_type": "authorization_code",
        "client_id": "web",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": pkce.verifier,
    }
    answer = post("/o/token/", **body, granted_scopes="users:write", expires_in="9")

    assert answer.json()["scope"] == "openid users:read"
    assert answer.json()["expires_in"] == 300


# By POST


def test_authorize__posted_by_another_site__leads_to_the_same_request_by_get(browser: Browser, web: Client) -> None:
    path = authorize_path(web, Verifier(), state="a b&c=ü")
    parameters = dict(parse_qsl(urlsplit(path).query))
    without_cookies = DjangoClient(enforce_csrf_checks=True)

    answer: Any = without_cookies.post("/o/authorize/", urlencode(parameters), FORM)

    assert answer.status_code == 303
    assert urlsplit(answer["Location"]).path == "/o/authorize/"
    assert dict(parse_qsl(urlsplit(answer["Location"]).query)) == parameters
    assert "Let The web app in?" in browser.get(answer["Location"]).content.decode()
    assert not get_grant_model().objects.exists(), "nothing was decided"


@pytest.mark.attack
@pytest.mark.parametrize("fields", [{"decision": "allow"}, {"csrfmiddlewaretoken": "x", "decision": "allow"}])
def test_authorize__decision_posted_by_another_site__is_refused(
    fields: dict[str, str], browser: Browser, web: Client
) -> None:
    path = authorize_path(web, Verifier())

    for address, body in ((path, fields), ("/o/authorize/", dict(parse_qsl(urlsplit(path).query), **fields))):
        assert browser.http.post(address, body).status_code == 403
    assert not get_grant_model().objects.exists()


def test_log_out__posted_by_a_client__asks_as_by_get(browser: Browser, web: Client) -> None:
    Client.objects.update(post_logout_redirect_uris="https://app.example.com/bye")
    tokens = log_in_at(web, browser)
    asked = {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": "https://app.example.com/bye"}

    answer: Any = browser.http.post("/o/logout/", urlencode(asked), FORM)

    assert answer.status_code == 303
    page = browser.get(answer["Location"])
    assert "Sign out?" in page.content.decode()
    left = browser.submit("/o/logout/", page, allow="true")
    assert left["Location"] == "https://app.example.com/bye"


@pytest.mark.attack
def test_log_out__forged__signs_nobody_out(browser: Browser, web: Client) -> None:
    for fields in ({"allow": "true"}, {"allow": "true", "csrfmiddlewaretoken": "x"}):
        assert browser.http.post("/o/logout/", fields).status_code == 403
    assert "signed in as" in browser.get("/").content.decode()


# Redirect URIs


@pytest.mark.parametrize(
    "query",
    [
        "a=b+c&x",
        "tilde=%7E&low=%7e",
        "a=b%20c",
        "a=b;c=d",
        "a&&b=",
        "",
        "a=%2F/:@!$'()*,",
        "a=b&",
        "redirect=a%3Fb%3D1",
    ],
)
def test_redirect_uri__keeps_its_query_byte_for_byte(query: str, browser: Browser, web: Client) -> None:
    uri = f"{CALLBACK}?{query}"
    Client.objects.update(redirect_uris=uri, post_logout_redirect_uris=uri)
    state = "s t+a%te/é&="
    path = authorize_path(web, Verifier(), redirect_uri=uri, state=state)
    log_out = {"client_id": "web", "post_logout_redirect_uri": uri, "state": state}

    answers = [
        browser.submit(path, decision="allow"),
        browser.submit(path, decision="deny"),
        browser.get(path + "&max_age=x"),
        browser.get(path + "&prompt=none"),
        browser.get(authorize_path(web, Verifier(), redirect_uri=uri, state=state, response_type="token")),
        Browser().get(path + "&prompt=none"),
        Browser().get("/o/logout/", **log_out),
    ]

    for answer in answers:
        assert answer["Location"].startswith(uri), answer["Location"]
        added = parse_qs(answer["Location"].removeprefix(uri).lstrip("?&"), strict_parsing=True)
        assert added["state"] == [state]
        assert all(len(values) == 1 for values in added.values())
        assert {"code", "error", "state"} & added.keys()
    assert [("code" in answer["Location"].removeprefix(uri)) for answer in answers] == [True] + [False] * 6


@pytest.mark.parametrize("name", ["code", "state", "iss", "error"])
def test_redirect_uri__with_a_parameter_of_answers__is_not_registered(name: str) -> None:
    client = Client(client_type="public", authorization_grant_type="authorization-code")
    client.redirect_uris = f"https://app.example.com/cb?{name}=x"

    with pytest.raises(ValidationError, match="answers use"):
        client.clean()


def test_address__malformed__is_not_followed(browser: Browser, web: Client) -> None:
    for uri in ["http://[", "http://127.0.0.1:x/", "https://a:99999999/", "%", "a\tb"]:
        assert browser.get(authorize_path(web, Verifier(), redirect_uri=uri)).status_code == 400
        assert browser.get("/o/logout/", client_id="web", post_logout_redirect_uri=uri).status_code == 400


# Malformed parameters of OpenID Connect

DEEP = "[" * 2000


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"claims": "x"}, "invalid_request"),
        ({"claims": "["}, "invalid_request"),
        ({"claims": "[]"}, "invalid_request"),
        ({"claims": "1"}, "invalid_request"),
        ({"claims": '"a"'}, "invalid_request"),
        ({"claims": "null"}, "invalid_request"),
        ({"claims": '{"id_token":[]}'}, "invalid_request"),
        ({"claims": '{"userinfo":{"name":1}}'}, "invalid_request"),
        ({"claims": DEEP}, "invalid_request"),
        ({"claims": '{"id_token":' * 300}, "invalid_request"),
        ({"claims": json.dumps({"id_token": {f"c{i}": None for i in range(2000)}})}, "invalid_request"),
        ({"request": "e30.e30."}, "request_not_supported"),
        ({"request_uri": "https://app.example.com/r"}, "request_uri_not_supported"),
        ({"registration": "{}"}, "registration_not_supported"),
        ({"id_token_hint": "nonsense"}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "none", "scope": "users:read", "max_age": "x"}, "invalid_request"),
        ({"prompt": "none consent", "scope": "users:read"}, "invalid_request"),
        ({"prompt": "create"}, "invalid_request"),
        ({"prompt": "None"}, "invalid_request"),
        ({"nonce": "n" * 256}, "invalid_request"),
        ({"code_challenge": "é" * 43}, "invalid_request"),
        ({"code_challenge": "+" * 43}, "invalid_request"),
        ({"code_challenge": "a" * 44}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "1.5"}, "invalid_request"),
        ({"max_age": "٣"}, "invalid_request"),
        ({"max_age": "9" * 5000}, "invalid_request"),
    ],
)
def test_authorize__malformed_parameter__is_told_to_the_client(
    parameters: dict[str, str], error: str, browser: Browser, web: Client
) -> None:
    path = authorize_path(web, Verifier(), **parameters)

    by_get, by_post = browser.get(path), browser.submit(path, browser.get("/device/"), decision="allow")

    for answer in (sent_back(by_get), sent_back(by_post)):
        assert (answer["error"], answer["state"], answer["iss"]) == (error, "a-state", ISSUER)
    assert not get_grant_model().objects.exists()


@pytest.mark.parametrize(
    "parameters",
    [
        {"claims": '{"id_token":{"auth_time":{"essential":true},"acr":null},"other":1}'},
        {"claims": '{"userinfo":null}'},
        {"ui_locales": "xx-invalid \u0000".strip("\u0000")},
        {"display": "hologram"},
        {"login_hint": "somebody@example.com"},
        {"acr_values": "urn:unknown 2"},
        {"prompt": "consent"},
        {"nonce": "n" * 255},
    ],
)
def test_authorize__parameter_that_is_only_a_wish__is_no_error(
    parameters: dict[str, str], browser: Browser, web: Client
) -> None:
    answer = browser.submit(authorize_path(web, Verifier(), **parameters), decision="allow")

    assert "code" in sent_back(answer)


@pytest.mark.parametrize("value", ["%FF", "%C3", "%ED%A0%80", "a%00b", "%80%80"])
def test_parameter__not_utf_8__is_an_error_of_the_caller(value: str, browser: Browser, web: Client) -> None:
    for name in ["state", "nonce", "claims", "scope", "client_id", "unknown"]:
        assert browser.http.get(f"{authorize_path(web, Verifier())}&{name}={value}").status_code == 400
        assert browser.http.post("/o/authorize/", f"{name}={value}", FORM).status_code == 400
        assert browser.http.post("/o/token/", f"{name}={value}", FORM).status_code == 400


@pytest.mark.attack
def test_authorize__longer_than_a_redirect_may_be__is_refused_without_a_traceback(
    browser: Browser, web: Client, caplog: pytest.LogCaptureFixture
) -> None:
    path = authorize_path(web, Verifier())
    anonymous: Any = Browser().get(f"{path}&ui_locales={'+' * 8000}")
    posted: Any = browser.http.post("/o/authorize/", f"ui_locales={'a' * 20_000}", FORM)

    assert [(answer.status_code, answer.json()["error"]) for answer in (anonymous, posted)] == [
        (400, "invalid_request"),
        (400, "invalid_request"),
    ]
    assert not [record for record in caplog.records if record.exc_info]


def test_authorize__query_that_is_hard_to_read__is_an_answer(browser: Browser, web: Client) -> None:
    for query in ["%", "%zz", "a=%u0041", "&&&", "=", "a=b;c", "|", "é", "\u0660=1", "a" * 5000]:
        assert browser.http.get(f"/o/authorize/?{query}").status_code == 400
        assert browser.http.get(f"{authorize_path(web, Verifier())}&{query}").status_code == 200


# Everything at once

values = st.one_of(
    st.sampled_from(
        [
            *("web", "machine", "tv", SECRET, CALLBACK, "code", "openid", "users:read", "S256", "none", "login", "0"),
            *("authorization_code", "refresh_token", "client_credentials", DEVICE_CODE, "token", "a" * 300, "{}", DEEP),
            *("http://[", "a.b.c", "e30.e30.e30", '{"alg":"none"}', "eyJhbGciOiJSUzI1NiIsImtpZCI6W119.e30.AA"),
            *("%FF", "%00", "\x00", "\ud7ff", "null", "1e999", "-1", "é" * 100, "key\u2028\u202e"),
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)
names = st.sampled_from([*sorted(KNOWN - IGNORED_HERE), "decision", "allow", "client", "user", "user_code", "x"])
bodies = st.lists(st.tuples(names, values), max_size=8)
paths = st.sampled_from(["/o/authorize/", "/o/logout/", "/o/userinfo/", "/device/", *MACHINE_PATHS])
schemes = st.sampled_from(["", "Basic ", "basic ", "Bearer ", "Digest ", "Basic"])
credentials = st.one_of(st.just(""), st.text("abcXYZ019+/=:.%é", max_size=30), st.just("d2ViOg=="))


@pytest.mark.attack
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_endpoint__any_parameters__is_no_fault_of_ours(data: Any, browser: Browser, web: Client) -> None:
    if not Client.objects.filter(client_id="machine").exists():
        machine_client(may_introspect=True)
        web_client("tv", authorization_grant_type=DEVICE_CODE, redirect_uris="")
    path, query, body = data.draw(paths), data.draw(bodies), data.draw(bodies)
    if data.draw(st.booleans()):
        good = parse_qsl(urlsplit(authorize_path(web, Verifier())).query)
        query = [*(pair for pair in good if pair[0] not in dict(query)), *query]
    http = browser.http if path not in MACHINE_PATHS else DjangoClient()
    http.raise_request_exception = True  # A traceback fails the test by itself.
    headers = {"authorization": f"{data.draw(schemes)}{data.draw(credentials)}", "origin": data.draw(values)}
    headers = {name: quote(value, safe=" =:/+[]") for name, value in headers.items() if value.strip()}
    http.handler.enforce_csrf_checks = False

    if data.draw(st.booleans()):
        answer: Any = http.get(f"{path}?{urlencode(query)}", headers=headers)
    else:
        address = f"{path}?{urlencode(query)}" if data.draw(st.booleans()) else path
        answer = http.post(address, urlencode(body), FORM, headers=headers)

    assert answer.status_code < 500
    if 300 <= answer.status_code < 400:
        assert answer["Location"].startswith((CALLBACK, "/accounts/login/", "/o/", "/")), answer["Location"]
        assert not answer["Location"].startswith("//")


def test_state__of_any_text__comes_back_exactly(browser: Browser, web: Client) -> None:
    for state in ["é", "+", " ", "%", "a&b=c#d?e", "\U0001f600", "\ufffd", "a\r\nb", secrets.token_hex(2000)]:
        for more in ("", "&prompt=none", "&claims=x"):
            path = f"{authorize_path(web, Verifier(), state=state)}{more}"
            answer = browser.get(path) if more else browser.submit(path, decision="deny")
            assert sent_back(answer)["state"] == state
