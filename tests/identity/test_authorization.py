"""Authorization codes: what a client gets, what its user is asked, and the ways in that are shut."""

import html
import json
from datetime import timedelta

import pytest
from django.utils import timezone
from oauth2_provider.models import get_grant_model

from project.accounts.models import User
from project.clients.models import Client
from project.identity.models import RevocationEvent
from project.identity.sessions import SIGNED_IN_AT
from tests.fixtures import give
from tests.identity.flows import (
    CALLBACK,
    DEVICE_CODE,
    SECRET,
    Browser,
    Verifier,
    authorize_path,
    claims,
    exchange,
    get_code,
    is_active,
    log_in_at,
    machine_client,
    post,
    refresh,
    sent_back,
    web_client,
)

ISSUER = "http://127.0.0.1:8000"


def test_code_flow__allowed__gives_tokens_of_rfc_9068_for_what_the_user_holds(
    browser: Browser, web: Client, reader: User
) -> None:
    tokens = log_in_at(web, browser, scope="openid profile users:read users:write", nonce="a-nonce")

    access = claims(tokens["access_token"])
    assert access.pop("exp") - access.pop("iat") == tokens["expires_in"] == 300
    assert len(access.pop("jti")) > 20
    family = access.pop("family")
    assert access == {
        "iss": ISSUER,
        "aud": "tandem-api",
        "sub": str(reader.pk),
        "client_id": "web",
        "scope": "openid profile users:read",
        "client_version": 1,
        "token_version": User.objects.get().token_version,
    }
    assert tokens["scope"] == "openid profile users:read", "Alice may not write"
    identity = claims(tokens["id_token"])
    assert identity["iss"] == ISSUER
    assert identity["aud"] == "web"
    assert identity["sub"] == str(reader.pk)
    assert identity["nonce"] == "a-nonce"
    assert identity["name"] == "Alice"
    assert identity["sid"] == family
    assert "email" not in identity, "its scope was not asked for"
    assert tokens["refresh_token"] not in str(vars(get_grant_model())), "opaque"


def test_consent__names_the_client_and_the_scopes_in_words(browser: Browser, web: Client) -> None:
    page = browser.get(authorize_path(web, Verifier(), scope="openid users:read users:write"))
    text = html.unescape(page.content.decode())

    assert "Let The web app in?" in text
    assert "See the people who have an account here" in text
    assert "Create, change and deactivate accounts" not in text, "Alice holds no permission for that"
    assert page["X-Frame-Options"] == "DENY"
    assert "no-store" in page["Cache-Control"]


def test_authorize__logged_out__asks_to_log_in_and_comes_back(web: Client, reader: User) -> None:
    browser, path = Browser(), authorize_path(web, Verifier())

    login = browser.get(path)
    assert login["Location"].startswith("/accounts/login/?next=/o/authorize/")
    back = browser.submit(login["Location"], username=reader.email, password="correct horse")

    assert back["Location"] == path
    assert "Let The web app in?" in browser.get(back["Location"]).content.decode()


def test_answer__allowed_or_refused__carries_state_and_who_answers(browser: Browser, web: Client) -> None:
    path = authorize_path(web, Verifier())

    allowed, refused = (sent_back(browser.submit(path, decision=decision)) for decision in ("allow", "deny"))

    assert allowed["state"] == refused["state"] == "a-state"
    assert allowed["iss"] == refused["iss"] == ISSUER
    assert refused["error"] == "access_denied"
    assert "code" not in refused


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"code_challenge": "", "code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "id_token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unauthorized_client"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"scope": "users:write"}, "access_denied"),
    ],
)
@pytest.mark.parametrize("method", ["get", "post"])
def test_authorize__what_is_not_offered__is_refused_at_both_steps(
    parameters: dict[str, str], error: str, method: str, browser: Browser, web: Client
) -> None:
    path = authorize_path(web, Verifier(), **parameters)

    answer = browser.get(path) if method == "get" else browser.submit(path, browser.get("/device/"), decision="allow")

    assert sent_back(answer)["error"] == error
    assert sent_back(answer)["iss"] == ISSUER
    assert not get_grant_model().objects.exists()


def test_authorize__prompt_none__asks_nobody_and_tells_the_client(browser: Browser, web: Client) -> None:
    path = authorize_path(web, Verifier(), prompt="none")
    assert sent_back(browser.get(path))["error"] == "consent_required"

    answer = sent_back(Browser().get(path))

    assert answer["error"] == "login_required"
    assert answer["iss"] == ISSUER
    assert answer["state"] == "a-state"


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example.com/callback",
        f"{CALLBACK}/more",
        f"{CALLBACK}?a=1",
        f"{CALLBACK}#fragment",
        "https://APP.example.com/callback",
        "https://app.example.com:443/callback",
        "http://app.example.com/callback",
        "https://user@app.example.com/callback",
        "//app.example.com/callback",
        "javascript:alert(1)",
    ],
)
def test_authorize__another_redirect_uri__is_told_to_the_user_and_followed_by_nobody(
    uri: str, browser: Browser, web: Client
) -> None:
    path = authorize_path(web, Verifier(), redirect_uri=uri)
    for answer in (browser.get(path), browser.submit(path, browser.get("/device/"), decision="deny")):
        assert answer.status_code == 400
        assert "Location" not in answer
        assert "Something is wrong with this link" in answer.content.decode()


def test_authorize__loopback__takes_any_port_and_nothing_else(browser: Browser) -> None:
    native = web_client("native")
    Client.objects.update(redirect_uris="http://127.0.0.1/cb")

    assert browser.get(authorize_path(native, Verifier(), redirect_uri="http://127.0.0.1:53123/cb")).status_code == 200
    assert browser.get(authorize_path(native, Verifier(), redirect_uri="http://127.0.0.1:53123/x")).status_code == 400
    assert browser.get(authorize_path(native, Verifier(), redirect_uri="http://localhost:53123/cb")).status_code == 400


def test_consent__forged_by_another_site__is_refused(browser: Browser, web: Client) -> None:
    answer = browser.http.post(authorize_path(web, Verifier()), {"decision": "allow"})

    assert answer.status_code == 403
    assert not get_grant_model().objects.exists()


def test_consent__hidden_fields_added__change_nothing(browser: Browser, web: Client) -> None:
    pkce = Verifier()

    answer = browser.submit(
        authorize_path(web, pkce, scope="openid"),
        decision="allow",
        allow="1",
        user="1",
        scopes="users:read",
    )

    tokens = exchange(web, sent_back(answer)["code"], pkce).json()
    assert tokens["scope"] == "openid"


@pytest.mark.parametrize("doubled", ["scope=users:read", "client_id=other", "redirect_uri=https://evil.example.com"])
def test_consent__parameters_given_twice__are_refused(doubled: str, browser: Browser, web: Client) -> None:
    answer = browser.get(f"{authorize_path(web, Verifier())}&{doubled}")

    assert answer.status_code == 400


def test_authorize__prompt_login__asks_to_log_in_again(browser: Browser, web: Client) -> None:
    answer = browser.get(authorize_path(web, Verifier(), prompt="login"))

    assert answer["Location"].startswith("/accounts/login/?next=/o/authorize/")
    assert "prompt" not in answer["Location"]


def test_authorize__signed_in_longer_ago_than_max_age__asks_to_log_in_again(browser: Browser, web: Client) -> None:
    fresh = authorize_path(web, Verifier(), max_age="60")
    assert browser.get(fresh).status_code == 200, "the consent page"

    age_session(browser, 61)
    answer = browser.get(fresh)

    assert answer["Location"].startswith("/accounts/login/?next=/o/authorize/")
    assert "max_age" not in answer["Location"], "who has just signed in is not asked twice"
    assert sent_back(browser.get(authorize_path(web, Verifier(), max_age="60", prompt="none")))["error"] == (
        "login_required"
    )
    assert browser.get(authorize_path(web, Verifier(), max_age="3600")).status_code == 200


@pytest.mark.parametrize("max_age", ["soon", "-1", "1.5"])
def test_authorize__max_age_is_no_number__is_refused(max_age: str, browser: Browser, web: Client) -> None:
    assert sent_back(browser.get(authorize_path(web, Verifier(), max_age=max_age)))["error"] == "invalid_request"


def age_session(browser: Browser, seconds: float) -> None:
    session = browser.http.session
    session[SIGNED_IN_AT] -= seconds
    session.save()


# The code


def test_code__wrong_missing_or_plain_verifier__is_refused(browser: Browser, web: Client) -> None:
    pkce = Verifier()
    code = get_code(browser, web, pkce)

    for verifier in ("", "x" * 43, pkce.challenge):
        answer = exchange(web, code, pkce, code_verifier=verifier)
        assert answer.status_code == 400
        assert answer.json()["error"] in {"invalid_grant", "invalid_request"}


def test_code__shown_by_another_client__is_refused_and_still_good_for_its_own(browser: Browser, web: Client) -> None:
    other, pkce = web_client("other"), Verifier()
    code = get_code(browser, web, pkce)

    stolen = exchange(other, code, pkce)

    assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_grant")
    assert exchange(web, code, pkce).status_code == 200


def test_code__at_another_redirect_uri__is_refused(browser: Browser, web: Client) -> None:
    pkce = Verifier()

    assert exchange(web, get_code(browser, web, pkce), pkce, redirect_uri="https://evil.example.com").status_code == 400


def test_code__used_again__kills_what_came_from_it(browser: Browser, web: Client) -> None:
    pkce = Verifier()
    code = get_code(browser, web, pkce)
    tokens = exchange(web, code, pkce).json()
    assert is_active(tokens["access_token"])

    replay = exchange(web, code, pkce)

    assert (replay.status_code, replay.json()["error"]) == (400, "invalid_grant")
    assert refresh(web, tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert not is_active(tokens["access_token"])
    event = RevocationEvent.objects.filter(kind="family").first()
    assert event is not None
    assert event.subject == claims(tokens["access_token"])["family"]


def test_code__old__is_refused(browser: Browser, web: Client) -> None:
    pkce = Verifier()
    code = get_code(browser, web, pkce)
    get_grant_model().objects.update(expires=timezone.now() - timedelta(seconds=1))

    assert exchange(web, code, pkce).json()["error"] == "invalid_grant"


def test_code__user_deactivated_meanwhile__is_refused(browser: Browser, web: Client) -> None:
    pkce = Verifier()
    code = get_code(browser, web, pkce)
    User.objects.update(is_active=False)

    assert exchange(web, code, pkce).json()["error"] == "invalid_grant"


def test_code__permission_taken_meanwhile__loses_its_scope(browser: Browser, web: Client, reader: User) -> None:
    pkce = Verifier()
    code = get_code(browser, web, pkce)
    reader.user_permissions.clear()

    assert exchange(web, code, pkce).json()["scope"] == "openid"


def test_code__confidential_client__needs_its_secret_too(browser: Browser) -> None:
    shop, pkce = web_client("shop", client_type="confidential", client_secret=SECRET), Verifier()
    code = get_code(browser, shop, pkce)

    assert exchange(shop, code, pkce).status_code == 401
    assert exchange(shop, code, pkce, client_secret="wrong").status_code == 401
    assert exchange(shop, code, pkce, client_secret=SECRET).status_code == 200


def test_stopped_client__gets_nothing_anywhere(browser: Browser, web: Client) -> None:
    pkce = Verifier()
    code = get_code(browser, web, pkce)
    Client.objects.update(is_active=False)

    assert exchange(web, code, pkce).status_code == 401
    assert browser.get(authorize_path(web, pkce)).status_code == 400


@pytest.mark.parametrize("grant_type", ["password", "implicit", "", "nonsense", "client_credentials"])
def test_token__grant_not_offered__is_refused(grant_type: str, web: Client, reader: User) -> None:
    answer = post("/o/token/", grant_type=grant_type, client_id="web", username=reader.email, password="correct horse")

    assert answer.status_code in {400, 401}
    assert "access_token" not in answer.json()


@pytest.mark.parametrize("path", ["/o/token/", "/o/revoke/", "/o/introspect/", "/o/device-authorization/"])
@pytest.mark.parametrize("body", [{}, {"grant_type": DEVICE_CODE}, {"code": "\x00", "client_id": "\x00"}])
def test_endpoints__nonsense__is_an_error_of_the_caller(path: str, body: dict[str, str], database: str) -> None:
    answer = post(path, **body)

    assert answer.status_code in {400, 401}
    assert "error" in json.loads(answer.content)


@pytest.mark.parametrize("parameter", ["state", "nonce", "client_id", "scope", "redirect_uri"])
def test_authorize__nul_character__is_an_error_of_the_caller(parameter: str, browser: Browser, web: Client) -> None:
    assert browser.get(authorize_path(web, Verifier(), **{parameter: "a\x00b"})).status_code == 400


# Machines


def test_client_credentials__granted_scopes__are_what_it_gets_at_most(database: str) -> None:
    machine = machine_client(scopes="users:read")

    def ask(**fields: str) -> dict[str, str]:
        answer = post("/o/token/", grant_type="client_credentials", client_id="machine", client_secret=SECRET, **fields)
        body: dict[str, str] = answer.json()
        return body

    token = claims(ask()["access_token"])
    assert (token["sub"], token["client_id"], token["scope"]) == ("machine", "machine", "users:read")
    assert "token_version" not in token
    assert "family" not in token
    assert "refresh_token" not in ask()
    assert ask(scope="users:write")["error"] == "invalid_scope"
    assert ask(user="1", scopes="users:write")["scope"] == "users:read", "nothing is taken from the body"
    assert machine.client_secret.startswith("sha256_token$"), "only its hash is kept"


def test_client_credentials__wrong_secret_or_none__is_refused(database: str) -> None:
    machine_client()

    assert post("/o/token/", grant_type="client_credentials", client_id="machine").status_code == 401
    wrong = post("/o/token/", grant_type="client_credentials", client_id="machine", client_secret="x")
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")


def test_userinfo__tells_what_the_scopes_allow_while_the_token_is_good(
    browser: Browser, web: Client, reader: User
) -> None:
    token = log_in_at(web, browser, scope="openid email")["access_token"]

    def ask(credentials: str) -> tuple[int, str]:
        answer = browser.http.get("/o/userinfo/", headers={"authorization": credentials})
        return answer.status_code, answer.content.decode()

    assert json.loads(ask(f"Bearer {token}")[1]) == {"sub": str(reader.pk), "email": "alice@example.com"}
    give(reader, "add_user")
    assert ask(f"Bearer {token}")[0] == 401, "her permissions changed, so she has to refresh"
    assert ask("Bearer nonsense")[0] == 401
    assert ask("")[0] == 401
    assert browser.http.get("/o/userinfo/", {"access_token": token}).status_code == 400
    no_openid = log_in_at(web, browser, scope="users:read")["access_token"]
    assert ask(f"Bearer {no_openid}")[0] == 401
