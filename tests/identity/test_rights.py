"""Staff give and take over no rights that they do not hold: clients, API keys, linked subjects, what was issued."""

import re
from typing import Any

import pytest

from project.accounts.models import User
from project.clients.models import Client
from project.identity.models import ApiKey, ExternalIdentity, RevocationEvent
from tests.admin.staff import PASSWORD, act, send, staff, text
from tests.fixtures import give, make_api_key
from tests.identity.flows import CALLBACK, SECRET, Browser, is_active, log_in_at, machine_client, refresh, web_client

CLIENTS, KEYS, LINKS = "/admin/clients/client/", "/admin/identity/apikey/", "/admin/identity/externalidentity/"


def all_of(*models: str) -> list[str]:
    return [f"{what}_{model}" for model in models for what in ("view", "add", "change", "delete")]


@pytest.fixture
def root(database: str) -> User:
    return User.objects.create_superuser("root@example.com", PASSWORD)


# Clients


@pytest.fixture
def keeper(database: str) -> Browser:
    """The browser of somebody who keeps the clients, and may see the people."""
    return staff(*all_of("client"), "view_user")[1]


def client_form(**fields: str | list[str]) -> dict[str, str | list[str]]:
    return {
        "name": "Nightly",
        "is_active": "on",
        "client_type": "confidential",
        "authorization_grant_type": "client-credentials",
        **fields,
    }


def of_client(client: Client) -> dict[str, Any]:
    return Client.objects.values().get(pk=client.pk)


BEYOND: dict[str, dict[str, Any]] = {
    "scopes": {"scopes": "users:read users:write"},
    "forgotten scope": {"scopes": "users:read orders:read"},
    "introspection": {"may_introspect": True},
    "a web client": {
        "scopes": "openid users:write",
        "authorization_grant_type": "authorization-code",
        "redirect_uris": CALLBACK,
    },
    "stopped": {"scopes": "users:write", "is_active": False},
}


@pytest.mark.attack
@pytest.mark.parametrize("fields", BEYOND.values(), ids=BEYOND.keys())
def test_client__that_holds_more__is_looked_at_only(fields: dict[str, Any], keeper: Browser) -> None:
    client = machine_client(**fields)
    before, one = of_client(client), f"{CLIENTS}{client.pk}"

    page = keeper.get(f"{one}/change/")
    assert page.status_code == 200
    assert 'name="_save"' not in text(page)
    form = client_form(redirect_uris="https://mine.example.com/cb", allowed_scopes=client.scopes[:1])
    assert send(keeper, f"{one}/change/", **form).status_code == 403
    assert send(keeper, f"{one}/delete/", post="yes").status_code == 403
    for action in ("make_new_secret", "end_tokens", "delete_selected"):
        assert "Client secret" not in text(act(keeper, CLIENTS, action, client.pk, post="yes"))
        act(keeper, CLIENTS, action, client.pk, select_across="1", post="yes")

    assert of_client(client) == before
    assert not RevocationEvent.objects.filter(kind="client").exists()


@pytest.mark.attack
@pytest.mark.parametrize("scopes", [["users:write"], ["users:read", "users:write"], ["orders:read"]])
def test_client__scopes_beyond_ones_own__are_not_granted(scopes: list[str], keeper: Browser) -> None:
    client = machine_client(scopes="users:read")
    assert "users:write" not in text(keeper.get(f"{CLIENTS}add/"))

    for path in (f"{CLIENTS}add/", f"{CLIENTS}{client.pk}/change/"):
        answer = send(keeper, path, **client_form(allowed_scopes=scopes))
        assert "is not one of the available choices" in text(answer)

    assert list(Client.objects.values_list("allowed_scopes", flat=True)) == ["users:read"]


@pytest.mark.attack
def test_client__introspection__is_a_superusers_to_grant(keeper: Browser) -> None:
    client = machine_client(scopes="users:read")
    form = client_form(allowed_scopes="users:read", may_introspect="on")

    assert send(keeper, f"{CLIENTS}{client.pk}/change/", **form).status_code == 302
    assert send(keeper, f"{CLIENTS}add/", **form).status_code == 200

    assert Client.objects.count() == 2
    assert not Client.objects.filter(may_introspect=True).exists()


def test_client__within_ones_rights__is_made_changed_and_given_a_secret(keeper: Browser) -> None:
    answer = send(keeper, f"{CLIENTS}add/", **client_form(allowed_scopes=["openid", "users:read"]))
    assert "Client secret" in text(answer)
    client = Client.objects.get()

    changed = send(keeper, f"{CLIENTS}{client.pk}/change/", **client_form(name="Daily", allowed_scopes="users:read"))
    assert changed.status_code == 302, text(changed)
    assert of_client(client)["allowed_scopes"] == "users:read"
    assert "Client secret" in text(act(keeper, CLIENTS, "make_new_secret", client.pk))
    assert send(keeper, f"{CLIENTS}{client.pk}/delete/", post="yes").status_code == 302
    assert not Client.objects.exists()


@pytest.mark.attack
@pytest.mark.parametrize("action", ["make_new_secret", "end_tokens", "delete_selected"])
def test_client__who_may_only_look__runs_no_action(action: str, database: str) -> None:
    client = machine_client(scopes="")
    _, viewer = staff("view_client")

    answer = act(viewer, CLIENTS, action, client.pk, post="yes")

    assert SECRET not in text(answer)
    assert "Client secret" not in text(answer)
    assert of_client(client)["client_secret"] == client.client_secret
    assert not RevocationEvent.objects.filter(kind="client").exists()


# API keys


@pytest.mark.attack
def test_api_key__of_somebody_else__is_not_made(root: User, bob: User) -> None:
    user, maker = staff(*all_of("apikey"), "view_user")
    give(bob, "view_user")

    page = text(maker.get(f"{KEYS}add/"))
    assert "root@example.com" not in page
    assert "users:write" not in page
    for owner in (root, bob):
        answer = send(maker, f"{KEYS}add/", name="Mine", owner=str(owner.pk), scopes="users:read")
        assert "is not one of the available choices" in text(answer)
    for scopes in (["users:write"], ["users:read", "users:write"], ["openid"]):
        answer = send(maker, f"{KEYS}add/", name="Mine", owner=str(user.pk), scopes=scopes)
        assert "is not one of the available choices" in text(answer)
    assert not ApiKey.objects.exists()

    assert "API key" in text(send(maker, f"{KEYS}add/", name="Mine", owner=str(user.pk), scopes="users:read"))
    assert ApiKey.objects.get().owner == user


@pytest.mark.attack
def test_api_key__of_a_stronger_account__is_not_ended(root: User, bob: User) -> None:
    make_api_key(root, "users:read")
    make_api_key(bob)
    of_root, of_bob = ApiKey.objects.get(owner=root), ApiKey.objects.get(owner=bob)
    _, browser = staff(*all_of("apikey"))

    assert send(browser, f"{KEYS}{of_root.pk}/delete/", post="yes").status_code == 403
    for action in ("end_selected", "delete_selected"):
        act(browser, KEYS, action, of_root.pk, of_bob.pk, post="yes")
    assert ApiKey.objects.filter(revoked_at=None).count() == 2

    act(browser, KEYS, "end_selected", of_bob.pk)
    of_bob.refresh_from_db()
    assert of_bob.revoked_at is not None


# Subjects of other issuers


@pytest.mark.attack
def test_link__to_a_stronger_account__is_neither_made_nor_changed(root: User, bob: User) -> None:
    linked = ExternalIdentity.objects.create(issuer="https://idp.example.com", subject="root", user=root)
    weak = ExternalIdentity.objects.create(issuer="https://idp.example.com", subject="bob", user=bob)
    _, browser = staff(*all_of("externalidentity"), "view_user")
    mine: dict[str, str | list[str]] = {"issuer": "https://idp.example.com", "subject": "mallory"}

    for path in (f"{LINKS}add/", f"{LINKS}{weak.pk}/change/"):
        answer = send(browser, path, **mine, user=str(root.pk))
        assert "is not one of the available choices" in text(answer)
    assert send(browser, f"{LINKS}{linked.pk}/change/", **mine, user=str(bob.pk)).status_code == 403
    assert send(browser, f"{LINKS}{linked.pk}/delete/", post="yes").status_code == 403
    act(browser, LINKS, "delete_selected", linked.pk, post="yes")

    kept = set(ExternalIdentity.objects.values_list("subject", "user__email"))
    assert kept == {("root", "root@example.com"), ("bob", "bob@example.com")}
    assert send(browser, f"{LINKS}{weak.pk}/change/", **mine, user=str(bob.pk)).status_code == 302


@pytest.mark.attack
def test_suggestions__are_what_the_form_accepts(root: User, bob: User) -> None:
    _, browser = staff(*all_of("externalidentity", "apikey"), "view_user")

    def suggested(app: str, model: str, field: str) -> list[str]:
        answer = browser.get("/admin/autocomplete/", app_label=app, model_name=model, field_name=field, term="")
        assert answer.status_code == 200, text(answer)
        return sorted(row["text"] for row in answer.json()["results"])  # type: ignore[attr-defined]

    assert suggested("identity", "externalidentity", "user") == ["bob@example.com", "desk@example.com"]
    assert suggested("identity", "apikey", "owner") == ["desk@example.com"]
    refused = browser.get(
        "/admin/autocomplete/", app_label="admin", model_name="logentry", field_name="user", term="root"
    )
    assert refused.status_code == 403, "a model that has no page here has no form to fill in"


# What was issued


@pytest.mark.attack
@pytest.mark.parametrize("model", ["refreshtoken", "accesstoken"])
def test_tokens__of_a_stronger_account__are_not_ended(model: str, reader: User) -> None:
    web, browser = web_client(), Browser()
    browser.log_in()
    tokens, path = log_in_at(web, browser), f"/admin/oauth2_provider/{model}/"
    _, desk = staff(*all_of("refreshtoken", "accesstoken"))
    (row,) = map(int, re.findall(rf"{path}(\d+)/change/", text(desk.get(path))))

    assert send(desk, f"{path}{row}/delete/", post="yes").status_code == 403
    for action in ("end_selected", "delete_selected"):
        act(desk, path, action, row, post="yes")
    assert is_active(tokens["access_token"])

    give(User.objects.get(email="desk@example.com"), "view_user")
    act(desk, path, "end_selected", row)
    assert not is_active(tokens["access_token"])
    assert refresh(web, tokens["refresh_token"]).status_code == 400


@pytest.mark.attack
def test_client__deleted__does_not_sign_out_a_stronger_account(reader: User) -> None:
    web, browser = web_client(scopes="openid"), Browser()
    browser.log_in()
    log_in_at(web, browser, scope="openid")
    _, desk = staff(*all_of("client", "refreshtoken", "accesstoken", "grant"))

    assert send(desk, f"{CLIENTS}{web.pk}/delete/", post="yes").status_code == 403
    assert Client.objects.filter(pk=web.pk).exists()
