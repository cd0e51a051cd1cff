"""The admin's pages about identity: secrets shown once, nothing to read that opens a door, everything to end."""

import hashlib
import re
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from oauth2_provider.models import get_access_token_model, get_grant_model

from project.accounts.models import User
from project.clients.models import Client
from project.identity.models import ApiKey, ExternalIdentity, RevocationEvent, SigningKey
from tests.fixtures import give
from tests.identity.flows import (
    CALLBACK,
    Browser,
    claims,
    is_active,
    log_in_at,
    machine_client,
    post,
    refresh,
    web_client,
)

PASSWORD = "open sesame 42"


@pytest.fixture
def admin(database: str) -> Browser:
    User.objects.create_superuser("root@example.com", PASSWORD)
    browser = Browser()
    assert browser.submit("/admin/login/", username="root@example.com", password=PASSWORD).status_code == 302
    return browser


def text(answer: Any) -> str:
    return str(answer.content.decode())


def shown_once(answer: Any) -> list[str]:
    assert answer.status_code == 200, text(answer)
    assert "no-store" in answer["Cache-Control"]
    return re.findall(r"<code[^>]*>([^<]+)</code>", text(answer))


def act(admin: Browser, path: str, action: str, *ids: int) -> Any:
    """Tick rows of a list and run an action on them."""
    page = admin.get(path)
    return admin.http.post(
        path,
        {
            "csrfmiddlewaretoken": re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', text(page))[0],
            "action": action,
            "_selected_action": [str(row) for row in ids],
        },
        follow=True,
    )


# Clients


def test_client__made__shows_its_secret_once_and_keeps_a_hash(admin: Browser) -> None:
    answer = admin.submit(
        "/admin/clients/client/add/",
        name="Nightly",
        is_active="on",
        client_type="confidential",
        authorization_grant_type="client-credentials",
        allowed_scopes="users:read",
    )

    client_id, secret = shown_once(answer)
    client = Client.objects.get()
    assert client.client_id == client_id
    assert client.client_secret.startswith("sha256_token$")
    token = post("/o/token/", grant_type="client_credentials", client_id=client_id, client_secret=secret)
    assert token.json()["scope"] == "users:read"
    pages = text(admin.get("/admin/clients/client/")) + text(admin.get(f"/admin/clients/client/{client.pk}/change/"))
    assert secret not in pages
    assert client.client_secret not in pages


def test_client__new_secret__replaces_the_old_one(admin: Browser) -> None:
    machine = machine_client()
    old = machine.client_secret

    client_id, secret = shown_once(act(admin, "/admin/clients/client/", "make_new_secret", machine.pk))

    machine.refresh_from_db()
    assert machine.client_secret != old
    token = post("/o/token/", grant_type="client_credentials", client_id=client_id, client_secret=secret)
    assert token.status_code == 200


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"redirect_uris": "http://app.example.com/cb"}, "give an https address, or http on 127.0.0.1"),
        ({"redirect_uris": "javascript:alert(1)"}, "redirect_uris"),
        ({"redirect_uris": ""}, "redirect_uris cannot be empty"),
        ({"redirect_uris": "https://*.example.com/cb"}, "redirect_uris"),
        ({"authorization_grant_type": "implicit"}, "is not one of the available choices"),
        ({"authorization_grant_type": "password"}, "is not one of the available choices"),
        ({"authorization_grant_type": "client-credentials"}, "can neither act for itself nor introspect"),
        ({"may_introspect": "on"}, "can neither act for itself nor introspect"),
        ({"allowed_scopes": "everything"}, "is not one of the available choices"),
    ],
)
def test_client__unsafe__is_not_made(fields: dict[str, str], reason: str, admin: Browser) -> None:
    answer = admin.submit(
        "/admin/clients/client/add/",
        **{
            "name": "App",
            "client_type": "public",
            "authorization_grant_type": "authorization-code",
            "redirect_uris": CALLBACK,
            **fields,
        },
    )

    assert answer.status_code == 200
    assert reason in text(answer)
    assert not Client.objects.exists()


def test_client__scopes_taken_or_stopped__its_tokens_end(admin: Browser, reader: User) -> None:
    web, browser = web_client(), Browser()
    browser.log_in()
    fields = {
        "name": "Web",
        "client_type": "public",
        "authorization_grant_type": "authorization-code",
        "redirect_uris": CALLBACK,
    }
    path = f"/admin/clients/client/{web.pk}/change/"

    tokens = log_in_at(web, browser)
    assert admin.submit(path, is_active="on", allowed_scopes="openid", **fields).status_code == 302
    assert not is_active(tokens["access_token"])
    assert refresh(web, tokens["refresh_token"]).json()["scope"] == "openid"

    assert admin.submit(path, allowed_scopes="openid", **fields).status_code == 302
    assert refresh(web, tokens["refresh_token"]).status_code == 401
    assert set(RevocationEvent.objects.filter(kind="client", subject="web").values_list("version", flat=True)) == {
        2,
        3,
        4,
    }


def test_client__deleted__its_tokens_end(admin: Browser, reader: User) -> None:
    web, browser = web_client(), Browser()
    browser.log_in()
    tokens = log_in_at(web, browser)

    admin.submit(f"/admin/clients/client/{web.pk}/delete/", post="yes")

    assert not Client.objects.filter(client_id="web").exists()
    assert not is_active(tokens["access_token"])


# What was issued


def test_access_token__without_a_log_in__is_deleted(admin: Browser, reader: User) -> None:
    soon = timezone.now() + timedelta(minutes=1)
    tokens = get_access_token_model().objects
    row = tokens.create(user=reader, application=web_client(), token="another-writer-kept-it", expires=soon, scope="")
    path = "/admin/oauth2_provider/accesstoken/"

    assert "The selected rows were revoked." in text(act(admin, path, "end_selected", row.pk))
    assert admin.submit(f"{path}{row.pk}/delete/", post="yes").status_code == 302

    assert not tokens.exists()


def test_code__waits__shows_no_part_of_itself(admin: Browser, reader: User) -> None:
    grant = get_grant_model().objects.create(
        user=reader,
        application=web_client(),
        code="a-live-code-of-thirty-letters~~~~",
        expires=timezone.now() + timedelta(minutes=1),
        redirect_uri=CALLBACK,
    )
    path = "/admin/oauth2_provider/grant/"

    pages = text(admin.get(path)) + text(admin.get(f"{path}{grant.pk}/change/"))

    assert "alice@example.com" in pages
    assert "~~~~" not in pages


@pytest.mark.parametrize("model", ["refreshtoken", "accesstoken"])
def test_tokens__are_looked_at_and_ended_but_never_read_or_changed(model: str, admin: Browser, reader: User) -> None:
    web, browser = web_client(), Browser()
    browser.log_in()
    tokens = log_in_at(web, browser)
    path = f"/admin/oauth2_provider/{model}/"
    (row,) = map(int, re.findall(rf"{path}(\d+)/change/", text(admin.get(path))))

    pages = text(admin.get(path)) + text(admin.get(f"{path}{row}/change/"))
    assert "alice@example.com" in pages
    assert tokens["refresh_token"] not in pages
    assert tokens["access_token"] not in pages
    assert 'name="_save"' not in pages
    assert admin.get(f"{path}add/").status_code == 403

    assert "The selected rows were revoked." in text(act(admin, path, "end_selected", row))
    assert not is_active(tokens["access_token"])
    assert refresh(web, tokens["refresh_token"]).status_code == 400

    again = log_in_at(web, browser)
    (row, *_ended) = map(int, re.findall(rf"{path}(\d+)/change/", text(admin.get(path))))
    admin.submit(f"{path}{row}/delete/", post="yes")
    assert not is_active(again["access_token"])


def test_user__deleted__takes_everything_along(admin: Browser, reader: User) -> None:
    web, browser = web_client(), Browser()
    browser.log_in()
    tokens = log_in_at(web, browser)
    admin.submit("/admin/identity/apikey/add/", name="Backup", owner=str(reader.pk), scopes="users:read")

    admin.submit(f"/admin/accounts/user/{reader.pk}/delete/", post="yes")

    assert not User.objects.filter(pk=reader.pk).exists()
    assert not ApiKey.objects.exists()
    assert not is_active(tokens["access_token"])
    event = RevocationEvent.objects.filter(kind="user", subject=str(reader.pk)).latest("id")
    assert (event.version or 0) > claims(tokens["access_token"])["token_version"]


def test_everything__has_a_page(admin: Browser, reader: User) -> None:
    ExternalIdentity.objects.create(issuer="https://idp.example.com", subject="s-1", user=reader)
    web, browser = web_client(), Browser()
    browser.log_in()
    log_in_at(web, browser)
    key = SigningKey.objects.first()
    assert key is not None

    assert key.kid in text(admin.get("/admin/identity/signingkey/"))
    page = text(admin.get(f"/admin/identity/signingkey/{key.pk}/change/"))
    assert "private" not in page.lower()
    assert 'name="_save"' not in page
    assert "permissions changed" in text(admin.get("/admin/identity/revocationevent/"))
    assert "s-1" in text(admin.get("/admin/identity/externalidentity/"))
    for path in ("identity/apikey", "oauth2_provider/grant", "oauth2_provider/devicegrant", "clients/client"):
        assert admin.get(f"/admin/{path}/").status_code == 200
    assert "idtoken" not in text(admin.get("/admin/"))


# API keys


def test_api_key__made__is_shown_once_and_kept_as_a_hash(admin: Browser, reader: User) -> None:
    answer = admin.submit("/admin/identity/apikey/add/", name="Backup", owner=str(reader.pk), scopes="users:read")

    (key,) = shown_once(answer)
    record = ApiKey.objects.get()
    assert re.fullmatch(r"tdm_[\w-]{43}", key)
    assert record.hash == hashlib.sha256(key.encode()).hexdigest()
    assert key.startswith(record.prefix)
    assert record.scopes == "users:read"
    pages = text(admin.get("/admin/identity/apikey/")) + text(admin.get(f"/admin/identity/apikey/{record.pk}/change/"))
    assert key not in pages
    assert record.hash not in pages
    assert 'name="_save"' not in pages


def test_api_key__scopes_that_its_owner_lacks__is_not_made(admin: Browser, reader: User, bob: User) -> None:
    lacking = admin.submit("/admin/identity/apikey/add/", name="Backup", owner=str(reader.pk), scopes="users:write")
    assert "The owner does not hold what this needs: users:write." in text(lacking)

    User.objects.filter(pk=bob.pk).update(is_active=False)
    gone = admin.submit("/admin/identity/apikey/add/", name="Backup", owner=str(bob.pk))
    assert "This account is deactivated." in text(gone)
    assert not ApiKey.objects.exists()


def test_api_key__ended__tells_every_process(admin: Browser, reader: User) -> None:
    admin.submit("/admin/identity/apikey/add/", name="Backup", owner=str(reader.pk), scopes="users:read")
    record = ApiKey.objects.get()

    act(admin, "/admin/identity/apikey/", "end_selected", record.pk)

    record.refresh_from_db()
    assert record.revoked_at is not None
    assert RevocationEvent.objects.get(kind="key").subject == str(record.pk)


def test_admin__staff_without_the_permissions__sees_and_ends_nothing(admin: Browser, reader: User) -> None:
    User.objects.filter(pk=reader.pk).update(is_staff=True)
    staff = Browser()
    staff.submit("/admin/login/", username=reader.email, password="correct horse")

    for path in ("identity/apikey", "identity/signingkey", "oauth2_provider/refreshtoken", "clients/client"):
        assert staff.get(f"/admin/{path}/").status_code == 403
    give(reader, "view_apikey")
    assert "end_selected" not in text(staff.get("/admin/identity/apikey/"))
