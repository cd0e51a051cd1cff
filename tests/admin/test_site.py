"""What holds on every page of the admin, whichever model is registered: Django's, the toolkit's, ours, a team's."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.contrib.admin.options import ActionLocation
from django.contrib.auth.models import Group, Permission
from django.contrib.sessions.models import Session
from django.core.exceptions import FieldError
from django.db.models import Field, Model, QuerySet
from django.test import RequestFactory
from django.utils import timezone
from oauth2_provider.models import (
    get_access_token_model,
    get_device_grant_model,
    get_grant_model,
    get_refresh_token_model,
)

from project.accounts.models import User
from project.admin.lookups import columns_of
from project.admin.site import READING, Bounded, BoundedSite
from project.identity.models import ApiKey, ExternalIdentity, RevocationEvent
from tests.admin.staff import PASSWORD, act, group, send, signed_in, staff, text
from tests.fixtures import make_api_key
from tests.identity.flows import CALLBACK, SECRET, Browser, log_in_at, machine_client, web_client

REGISTERED = {model._meta.label_lower: model_admin for model, model_admin in admin.site._registry.items()}
EVERY = pytest.mark.parametrize("label", sorted(REGISTERED))


def path_of(label: str) -> str:
    return f"/admin/{label.replace('.', '/')}/"


@pytest.fixture
def world(reader: User) -> dict[str, Model]:
    """A row of every registered model, and a secret in each column that keeps secrets."""
    machine_client()
    web, browser = web_client(), Browser()
    browser.log_in()
    log_in_at(web, browser)
    make_api_key(reader, "users:read")
    ExternalIdentity.objects.create(issuer="https://idp.example.com", subject="s-1", user=reader)
    RevocationEvent.objects.create(kind="token", subject="a-jti")
    soon = timezone.now() + timedelta(minutes=1)
    get_grant_model().objects.create(
        user=reader, application=web, code="a-live-code-of-thirty-letters", expires=soon, redirect_uri=CALLBACK
    )
    get_device_grant_model().objects.create(
        client_id="web", device_code="a-live-device-code", user_code="ABCDEFGH", expires=soon
    )
    group("Readers", "view_user")
    rows: dict[str, Any] = {label: QuerySet(model_admin.model).first() for label, model_admin in REGISTERED.items()}
    return {label: row for label, row in rows.items() if row is not None}


def contents() -> dict[str, list[dict[str, Any]]]:
    """Every row of every registered model."""
    return {
        label: list(QuerySet(model_admin.model).order_by("pk").values()) for label, model_admin in REGISTERED.items()
    }


@EVERY
def test_registered__obeys_the_site(label: str) -> None:
    assert isinstance(REGISTERED[label], Bounded)
    assert not REGISTERED[label].inlines, "say here how rows of inlines are bounded, before the first one is added"


# Actions


def actions_of(model_admin: Any) -> dict[str, Any]:
    """All actions, the site's own too, of lists and of single rows, whoever may run them."""
    found = [action for location in ActionLocation for action in model_admin._get_base_actions(location)]
    return {action.name: action.func for action in found}


@EVERY
def test_action__names_a_permission_that_lets_its_holder_change(label: str) -> None:
    actions = actions_of(REGISTERED[label])
    assert "delete_selected" in actions

    for name, action in actions.items():
        named = getattr(action, "allowed_permissions", ())
        assert named, f"{label}: {name} names no permission"
        assert not set(READING) & set(named), f"{label}: {name} runs with view; list it here if it changes nothing"


@pytest.mark.attack
@EVERY
def test_view_permissions__change_nothing(label: str, world: dict[str, Model]) -> None:
    viewing = Permission.objects.filter(codename__startswith="view_").values_list("codename", flat=True)
    _, browser = staff(*set(viewing))
    before, row = contents(), world.get(label)
    model_admin, path = REGISTERED[label], path_of(label)
    pk = getattr(row, "pk", 1)

    for action in actions_of(model_admin):
        answers = [
            act(browser, path, action, pk, post="yes"),
            act(browser, path, action, pk, post="yes", select_across="1"),
            act(browser, f"{path}{pk}/change/", action, pk, post="yes"),
        ]
        assert not any(SECRET in text(answer) for answer in answers)
    for path_to in ("add/", f"{pk}/change/", f"{pk}/delete/", f"{pk}/password/"):
        send(browser, path + path_to, post="yes", name="x", email="x@example.com", password1="x", password2="x")
        send(browser, path + path_to, _saveasnew="1", _popup="1", name="x", email="x@example.com")

    assert contents() == before


def test_action__without_permissions__is_a_superusers_alone(database: str) -> None:
    def careless(model_admin: Any, request: Any, rows: QuerySet[Any]) -> None:
        rows.delete()

    class GroupAdmin(ModelAdmin):  # type: ignore[type-arg]
        actions = (careless,)

    site = BoundedSite(name="careless")
    site.register(Group, GroupAdmin)
    user, _ = staff("view_group", "change_group", "delete_group")
    request = RequestFactory().get("/")

    request.user = user
    assert set(site.get_model_admin(Group).get_actions(request)) == {"delete_selected"}
    request.user = User(is_active=True, is_superuser=True)
    assert set(site.get_model_admin(Group).get_actions(request)) == {"delete_selected", "careless"}


# Secret columns

SUSPICIOUS = re.compile("pass|secret|token|code|hash|checksum|private|key|nonce|challenge|session|headers|body|claims")
"""What columns that keep secrets are called."""

SECRET_COLUMNS = {
    "accounts.user": {"password"},
    "clients.client": {"client_secret", "registration_token_hash"},
    "idempotency.keptanswer": {"key", "headers", "body"},
    "identity.apikey": {"hash"},
    "identity.signingkey": {"private_key"},
    "oauth2_provider.accesstoken": {"token", "token_checksum"},
    "oauth2_provider.devicegrant": {"device_code", "user_code"},
    "oauth2_provider.grant": {"code", "code_challenge", "nonce", "claims"},
    "oauth2_provider.refreshtoken": {"token", "token_checksum"},
    "sessions.session": {"session_key", "session_data"},
}
PUBLIC_COLUMNS = {
    "accounts.user": {"password_version", "token_version"},
    "auth.permission": {"codename"},
    "clients.client": {"hash_client_secret", "token_version"},
    "identity.signingkey": {"public_jwk"},
    "oauth2_provider.accesstoken": {"source_refresh_token", "id_token"},
    "oauth2_provider.grant": {"code_challenge_method"},
    "oauth2_provider.refreshtoken": {"access_token", "token_family"},
}
LOOKUPS = (
    *("exact", "iexact", "startswith", "istartswith", "endswith", "iendswith", "contains", "icontains"),
    *("regex", "iregex", "gt", "gte", "lt", "lte", "in", "range", "isnull"),
)


def test_secret_columns__of_every_model__are_known() -> None:
    """A new column with such a name is a secret, or is public: say so above."""
    for model in apps.get_models():
        label = model._meta.label_lower
        if model._meta.app_label == "everyfield":
            continue  # The tests' own app.
        columns = {field.name for field in model._meta.concrete_fields}
        known = SECRET_COLUMNS.get(label, set()) | PUBLIC_COLUMNS.get(label, set())
        assert {name for name in columns if SUSPICIOUS.search(name)} <= known, label
        assert known <= columns, label


def secret_paths(model: type[Model], depth: int = 2) -> Iterator[str]:
    """Every way, through at most ``depth`` relations in either direction, from a model to a secret column."""
    yield from SECRET_COLUMNS.get(model._meta.label_lower, ())
    if depth:
        for field in model._meta.get_fields():
            if field.is_relation and field.related_model and not isinstance(field.related_model, str):
                ways = [field.name]
                if isinstance(field, Field) and field.concrete and not field.many_to_many:
                    ways.append(field.attname)  # The ORM follows ``user_id__password`` as well.
                yield from (f"{way}__{rest}" for way in ways for rest in secret_paths(field.related_model, depth - 1))


@pytest.mark.attack
@EVERY
def test_secret_column__looked_up__is_refused(label: str, database: str) -> None:
    model_admin = REGISTERED[label]
    request = RequestFactory().get("/")
    request.user = User(is_active=True, is_superuser=True)
    paths = set(secret_paths(model_admin.model))
    assert paths or label in {"identity.signingkey", "identity.revocationevent"}, label

    for path in paths:
        _is_a_column(model_admin.model, path)
        allowed = [name for name in LOOKUPS if model_admin.lookup_allowed(f"{path}__{name}", "a", request)]
        assert not allowed, f"{label}: {path}"
        assert not model_admin.lookup_allowed(path, "a", request)


def _is_a_column(model: type[Model], path: str) -> None:
    try:
        QuerySet(model).filter(**{f"{path}__isnull": False})
    except FieldError as error:
        pytest.fail(f"the test looks for a column that is not there: {error}")


@pytest.mark.attack
@EVERY
def test_secret_column__in_a_query__reads_nothing(label: str, world: dict[str, Model]) -> None:
    User.objects.create_superuser("root@example.com", PASSWORD)
    browser, path = signed_in("root@example.com"), path_of(label)
    if label == "oauth2_provider.idtoken":
        assert browser.get(path).status_code == 403, "none is kept"
        return
    own, related = (set(secret_paths(REGISTERED[label].model, depth)) for depth in (0, 1))

    for secret in own:
        for query in (f"{secret}__startswith", f"{secret}__regex", f"{secret}__in", f"{secret}__gt", secret):
            assert browser.get(path, **{query: "a"}).status_code == 400, query
        assert browser.get(path, _to_field=secret).status_code == 400
    for secret in sorted(related - own)[:8]:  # The test above asks the site about each of them.
        assert browser.get(path, **{f"{secret}__startswith": "a"}).status_code == 400, secret
    for order in ("99", "-99", "password", *map(str, range(len(REGISTERED[label].list_display) + 1))):
        page = browser.get(path, o=order)
        assert page.status_code == 200


@EVERY
def test_secret_column__of_a_registered_model__is_in_no_option(label: str) -> None:
    model_admin: Any = REGISTERED[label]
    methods = [getattr(model_admin, str(name), None) for name in model_admin.list_display]
    shown = [
        *model_admin.list_display,
        *(getattr(method, "admin_order_field", None) for method in methods),
        *model_admin.list_editable,
        *model_admin.readonly_fields,
        *(model_admin.ordering or ()),
        *model_admin.search_fields,
        *(item[0] if isinstance(item, tuple) else item for item in model_admin.list_filter),
        model_admin.date_hierarchy or "",
    ]
    secrets = set(secret_paths(model_admin.model))

    assert not secrets & {columns_of(model_admin.model, str(name).lstrip("-^=@")) for name in shown if name}


@pytest.mark.attack
@EVERY
def test_secret__stands_on_no_page(label: str, world: dict[str, Model]) -> None:
    User.objects.create_superuser("root@example.com", PASSWORD)
    viewing = Permission.objects.filter(codename__startswith="view_").values_list("codename", flat=True)
    secrets = {
        str(value)
        for secret_label, columns in SECRET_COLUMNS.items()
        for row in QuerySet(apps.get_model(secret_label)).values(*columns)
        for value in row.values()
        if value not in {None, ""}
    }
    hashes = {part for secret in secrets for part in re.split(r"\W+", secret) if len(part) >= 20}
    path, row = path_of(label), world.get(label)

    for browser in (signed_in("root@example.com"), staff(*set(viewing))[1]):
        one = f"{path}{getattr(row, 'pk', 1)}/"
        pages = [path, f"{path}?q=a", f"{path}add/", *(f"{one}{page}/" for page in ("change", "history", "delete"))]
        shown = "".join(text(browser.get(page)) for page in pages)
        assert not {secret for secret in secrets | hashes if len(secret) >= 8 and secret in shown}
        for hidden in hashes if label == "accounts.user" else ():
            assert hidden[:6] not in shown, "not even the beginning of a hash"


def test_new_model__registered_without_a_thought__is_filtered_by_what_it_shows(database: str) -> None:
    class SessionAdmin(ModelAdmin):  # type: ignore[type-arg]
        list_display = ("expire_date",)

    site = BoundedSite(name="new")
    site.register(Session, SessionAdmin)
    site.register(ApiKey)
    request = RequestFactory().get("/")

    sessions, keys = site.get_model_admin(Session), site.get_model_admin(ApiKey)
    assert not sessions.lookup_allowed("session_data__startswith", "a", request)
    assert sessions.lookup_allowed("expire_date__gt", "2026-01-01", request)
    assert not keys.lookup_allowed("hash__startswith", "a", request)
    assert not keys.lookup_allowed("name__startswith", "a", request), "it shows only its text"


def test_offered_filters__work(world: dict[str, Model]) -> None:
    User.objects.create_superuser("root@example.com", PASSWORD)
    browser = signed_in("root@example.com")
    readers = Group.objects.get()
    token = get_refresh_token_model().objects.get()

    for path, query, found in (
        ("accounts/user", {"groups__id__exact": str(readers.pk)}, "0 users"),
        ("accounts/user", {"is_superuser__exact": "1"}, "1 user"),
        ("accounts/user", {"email__startswith": "alice"}, "1 user"),
        ("accounts/user", {"id__exact": "0", "_popup": "1"}, "0 users"),
        ("accounts/user", {"pk__in": "0"}, "0 users"),
        ("oauth2_provider/refreshtoken", {"application__id__exact": str(token.application_id)}, "1 refresh token"),
        ("oauth2_provider/refreshtoken", {"revoked__isempty": "1"}, "1 refresh token"),
        ("oauth2_provider/accesstoken", {"application__id__exact": "0"}, "0 access tokens"),
    ):
        page = browser.get(f"/admin/{path}/", **query)
        assert page.status_code == 200, (path, query)
        assert found in text(page), (path, query)
    assert get_access_token_model().objects.exists()
