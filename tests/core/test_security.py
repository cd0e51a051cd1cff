"""Credentials through the whole app: believed once, remembered, ended while they are in use."""

import datetime
import time
from functools import partial

import httpx2
import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.conf import settings
from django.test import Client

from fastapi_app.core.api_keys import ApiKeys
from fastapi_app.core.errors import Unauthenticated
from fastapi_app.core.jwks import IssuerKeys
from fastapi_app.core.revocation import Revocable, RevocationView
from fastapi_app.core.security import Authenticator
from fastapi_app.core.tokens import Issuer, OwnSubjects, TokenVerifier, UnverifiedToken
from project.accounts.models import User
from project.config import config
from project.identity.models import RevocationEvent
from tests.core.issuer import OTHER_KEY, TRUSTED, Publisher, token
from tests.fixtures import IssueToken, assert_problem, bearer, machine_token, sign

pytestmark = pytest.mark.asyncio


# The cache


class NoDatabase(RevocationView):
    """Revocations that the test sets itself."""

    def __init__(self) -> None:
        super().__init__(None, remember_s=60)  # type: ignore[arg-type]


class NoKeys(ApiKeys):
    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def revocations() -> RevocationView:
    return NoDatabase()


@pytest.fixture
def authenticator(publisher: Publisher, revocations: RevocationView) -> Authenticator:
    issuer = Issuer(TRUSTED, publisher.issuer_keys(), OwnSubjects(max_ttl_s=3600))
    return Authenticator(TokenVerifier([issuer]), NoKeys(), revocations)


async def test_token__verified_before__is_not_verified_again_nor_believed_longer(
    authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = token(exp=int(time.time()) + 60)
    principal = await authenticator.authenticate(good)

    with monkeypatch.context() as patch:
        patch.setattr(UnverifiedToken, "split", None)
        assert await authenticator.authenticate(good) is principal

    with monkeypatch.context() as patch:
        patch.setattr(time, "time", partial(float, time.time() + 130))
        with pytest.raises(Unauthenticated, match="expired"):
            await authenticator.authenticate(good)


async def test_token__verified_before__is_refused_once_its_key_is_withdrawn(
    authenticator: Authenticator, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = token()
    await authenticator.authenticate(good)

    publisher.keys = (OTHER_KEY,)
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + IssuerKeys.LIFETIME_S)

    with pytest.raises(Unauthenticated, match="unknown key"):
        await authenticator.authenticate(good)


async def test_token__verified_before__is_refused_once_it_is_revoked(
    authenticator: Authenticator, revocations: RevocationView
) -> None:
    good = token()
    await authenticator.authenticate(good)

    now = datetime.datetime.now(datetime.UTC)
    await revocations._learn([{"id": 1, "kind": "token", "subject": "j", "version": None, "created_at": now}])

    for _ in range(2):
        with pytest.raises(Unauthenticated, match="revoked"):
            await authenticator.authenticate(good)


async def test_tokens__many__are_remembered_up_to_a_bound(
    authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Authenticator, "MOST_REMEMBERED", 2)

    for number in range(5):
        await authenticator.authenticate(token(jti=str(number)))

    assert len(authenticator._known) == 2


async def test_forged_tokens__twenty__fetch_the_keys_once_more_at_most(
    authenticator: Authenticator, publisher: Publisher
) -> None:
    await authenticator.authenticate(token())
    for number in range(20):
        with pytest.raises(Unauthenticated, match="unknown key"):
            await authenticator.authenticate(token({"kid": f"forged-{number}"}, key=OTHER_KEY))

    assert len(publisher.fetches) == 1


# The app


@pytest_asyncio.fixture
async def views(monkeypatch: pytest.MonkeyPatch) -> list[RevocationView]:
    """The revocation views of the apps that the test starts."""
    started: list[RevocationView] = []
    init = RevocationView.__init__

    def noting(self: RevocationView, *arguments: object, **options: object) -> None:
        init(self, *arguments, **options)  # type: ignore[arg-type]
        started.append(self)

    monkeypatch.setattr(RevocationView, "__init__", noting)
    return started


async def test_deactivated_by_the_api__their_token_is_refused_and_a_new_one_after_return_is_taken(
    views: list[RevocationView], client: httpx2.AsyncClient, alice: User, bob: User, issue_token: IssueToken
) -> None:
    admin, bobs = bearer(issue_token(alice, "users:write")), bearer(issue_token(bob))
    assert (await client.get("/api/v1/users/me", headers=bobs)).status_code == 200

    answer = await client.patch(f"/api/v1/users/{bob.pk}", json={"is_active": False}, headers=admin)
    assert answer.status_code == 200
    await views[0].poll()
    assert_problem(await client.get("/api/v1/users/me", headers=bobs), 401)

    await client.patch(f"/api/v1/users/{bob.pk}", json={"is_active": True}, headers=admin)
    await views[0].poll()
    assert_problem(await client.get("/api/v1/users/me", headers=bobs), 401)
    await bob.arefresh_from_db()
    assert (await client.get("/api/v1/users/me", headers=bearer(issue_token(bob)))).status_code == 200


async def test_deleted_by_the_api__ends_tokens_in_the_same_transaction(
    client: httpx2.AsyncClient, alice: User, bob: User, issue_token: IssueToken
) -> None:
    assert (
        await client.delete(f"/api/v1/users/{bob.pk}", headers=bearer(issue_token(alice, "users:write")))
    ).status_code == 204

    await bob.arefresh_from_db()
    event = await RevocationEvent.objects.aget()
    assert (bob.is_active, bob.token_version) == (False, 1)
    assert (event.kind, event.subject, event.version) == ("user", str(bob.pk), 1)


@pytest.mark.parametrize("changes", [{"display_name": "B"}, {"is_active": True}])
async def test_changed_otherwise__tokens_stay_good(
    changes: dict[str, object], client: httpx2.AsyncClient, alice: User, bob: User, issue_token: IssueToken
) -> None:
    await client.patch(f"/api/v1/users/{bob.pk}", json=changes, headers=bearer(issue_token(alice, "users:write")))

    assert not await RevocationEvent.objects.aexists()


async def test_change_that_fails__ends_no_tokens(
    client: httpx2.AsyncClient, alice: User, bob: User, issue_token: IssueToken
) -> None:
    writer = bearer(issue_token(alice, "users:write"))
    changes = {"email": alice.email, "is_active": False}

    assert_problem(await client.patch(f"/api/v1/users/{bob.pk}", json=changes, headers=writer), 409)

    await bob.arefresh_from_db()
    assert (bob.is_active, bob.token_version) == (True, 0)
    assert not await RevocationEvent.objects.aexists()


async def test_revocations_not_heard_for_long__writes_are_refused_reads_go_on_and_readiness_says_so(
    client: httpx2.AsyncClient,
    alice: User,
    issue_token: IssueToken,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alices = bearer(issue_token(alice, "users:read", "users:write"))
    monkeypatch.setattr(RevocationView, "STALE_AFTER_S", -1.0)

    for method, path, body in [
        ("POST", "", {"email": "new@example.com"}),
        ("PATCH", f"/{alice.pk}", {"display_name": "A"}),
        ("DELETE", f"/{alice.pk}", None),
    ]:
        answer = await client.request(method, f"/api/v1/users{path}", json=body, headers=alices)
        assert_problem(answer, 503)
        assert answer.headers["retry-after"]
    assert (await client.get("/api/v1/users", headers=alices)).status_code == 200
    assert (await client.get("/api/v1/users/me", headers=alices)).status_code == 200
    assert_problem(await client.post("/api/v1/users", json={}), 401)
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["revocations"]) == (503, "failed")


async def test_machine__with_the_scope__reads_but_is_nobody(client: httpx2.AsyncClient, alice: User) -> None:
    machine = bearer(machine_token("users:read"))

    assert (await client.get(f"/api/v1/users/{alice.pk}", headers=machine)).status_code == 200
    assert_problem(await client.get("/api/v1/users/me", headers=machine), 403)
    assert_problem(await client.delete(f"/api/v1/users/{alice.pk}", headers=machine), 403)


async def test_machine__its_client_was_ended__is_refused(
    views: list[RevocationView], client: httpx2.AsyncClient, alice: User
) -> None:
    machine, other = bearer(machine_token("users:read")), bearer(machine_token("users:read", client_id="other"))
    assert (await client.get("/api/v1/users", headers=machine)).status_code == 200

    await RevocationEvent.objects.acreate(kind="client", subject="a-machine")
    await views[0].poll()

    assert_problem(await client.get("/api/v1/users", headers=machine), 401)
    assert (await client.get("/api/v1/users", headers=other)).status_code == 200


@pytest.mark.attack
async def test_token__ended_by_an_event_that_memory_has_lost__is_refused(
    views: list[RevocationView],
    client: httpx2.AsyncClient,
    alice: User,
    issue_token: IssueToken,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RevocationView, "BATCH", 10)
    monkeypatch.setattr(RevocationView, "MOST_REMEMBERED", 20)
    seen, unseen = bearer(issue_token(alice)), bearer(issue_token(alice))
    assert (await client.get("/api/v1/users/me", headers=seen)).status_code == 200

    await User.objects.aupdate(token_version=1)
    await RevocationEvent.objects.abulk_create(RevocationEvent(kind="token", subject=f"t-{n}") for n in range(50))
    await views[0].poll()

    assert not views[0].is_revoked(Revocable(user=str(alice.pk), user_version=0))
    for shown in (seen, unseen):
        assert_problem(await client.get("/api/v1/users/me", headers=shown), 401)
    await alice.arefresh_from_db()
    assert (await client.get("/api/v1/users/me", headers=bearer(issue_token(alice)))).status_code == 200


async def test_id_token_of_ours__is_no_access_token(client: httpx2.AsyncClient, alice: User) -> None:
    now = int(time.time())
    id_token = sign(
        {"iss": config.base_url, "aud": "a-client", "sub": str(alice.pk), "iat": now, "exp": now + 300}, typ="JWT"
    )

    assert_problem(await client.get("/api/v1/users/me", headers=bearer(id_token)), 401)


async def test_session_cookie_of_django__means_nothing_to_the_api(client: httpx2.AsyncClient, alice: User) -> None:
    browser = Client()
    await sync_to_async(browser.force_login)(alice)
    client.cookies.set(settings.SESSION_COOKIE_NAME, browser.cookies[settings.SESSION_COOKIE_NAME].value)

    assert_problem(await client.get("/api/v1/users/me"), 401)


async def test_docs__say_what_each_operation_demands(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/api/v1/openapi.json")).json()

    assert document["paths"]["/users"]["post"]["security"] == [{"oauth2": ["users:write"]}, {"bearer": []}]
    assert document["paths"]["/users/me"]["get"]["security"] == [{"oauth2": []}, {"bearer": []}]
    (flow,) = document["components"]["securitySchemes"]["oauth2"]["flows"].values()
    assert set(flow["scopes"]) == {"users:read", "users:write"}
    assert (flow["authorizationUrl"], flow["tokenUrl"]) == ("/o/authorize/", "/o/token/")
    assert set(document["components"]["securitySchemes"]) == {"oauth2", "bearer"}


async def test_docs__log_in_window__reaches_back_to_the_page_that_opened_it(client: httpx2.AsyncClient) -> None:
    pages = [await client.get(path) for path in ("/api/v1/docs", "/accounts/login/", "/api/docs/oauth2-redirect")]

    assert {page.headers["cross-origin-opener-policy"] for page in pages} == {"same-origin"}


@pytest.mark.parametrize("root_path", ["", "/prefix"])
async def test_docs__authorize_button__is_sent_back_to_where_it_was_shown(
    root_path: str, client: httpx2.AsyncClient
) -> None:
    transport = client._transport
    assert isinstance(transport, httpx2.ASGITransport)
    behind = httpx2.ASGITransport(transport.app, root_path=root_path)
    async with httpx2.AsyncClient(transport=behind, base_url=f"http://testserver{root_path}") as browser:
        page = (await browser.get("/api/docs", follow_redirects=True)).text
        script = (await browser.get("/api/docs.js")).text
        redirect_page = await browser.get("/api/docs/oauth2-redirect?code=x&state=y")

    assert f'data-redirect="{root_path}/api/docs/oauth2-redirect"' in page
    assert 'data-client="api-docs"' in page
    assert "usePkceWithAuthorizationCodeGrant: true" in script
    assert redirect_page.status_code == 200
    assert f'<script src="{root_path}/static/' in redirect_page.text
