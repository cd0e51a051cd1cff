"""Staff give and take over no rights that they do not hold: accounts and groups."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.admin import ModelAdmin, TabularInline
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.contrib.messages.storage.cookie import CookieStorage
from django.core.exceptions import PermissionDenied
from django.test import RequestFactory

from project.accounts.models import User
from project.accounts.rights import may_change, within
from project.admin.site import BoundedSite
from tests.admin.staff import PASSWORD, act, group, ids, send, signed_in, staff, text
from tests.fixtures import give
from tests.identity.flows import Browser

USERS, GROUPS = "/admin/accounts/user/", "/admin/auth/group/"
HELD = (
    *(f"{what}_user" for what in ("view", "add", "change", "delete")),
    *(f"{what}_group" for what in ("view", "add", "change", "delete")),
)
BEYOND = "delete_client"
NEW_PASSWORD = {"usable_password": "true", "password1": "taken over 42", "password2": "taken over 42"}


@dataclasses.dataclass
class Desk:
    """A staff member who looks after accounts and groups, and holds nothing else."""

    user: User
    browser: Browser


@pytest.fixture
def desk(database: str) -> Desk:
    return Desk(*staff(*HELD))


def of_user(user: User) -> dict[str, Any]:
    """All that the admin could change of a user."""
    row = User.objects.values("email", "display_name", "password", "is_active", "is_staff", "is_superuser").get(
        pk=user.pk
    )
    return row | {
        "groups": set(user.groups.values_list("name", flat=True)),
        "user_permissions": set(user.user_permissions.values_list("codename", flat=True)),
    }


def form_of(user: User, **changes: str | list[str]) -> dict[str, str | list[str]]:
    """The change form as it stands, with changes."""
    flags = {name: "on" for name in ("is_active", "is_staff", "is_superuser") if getattr(user, name)}
    return {
        "email": user.email,
        "display_name": user.display_name,
        "groups": [str(row.pk) for row in user.groups.all()],
        "user_permissions": [str(row.pk) for row in user.user_permissions.all()],
        **flags,
        **changes,
    }


# One's own account


@pytest.mark.attack
def test_own_account__rights_ticked__only_the_name_changes(desk: Desk) -> None:
    admins, before = group("Admins", BEYOND), of_user(desk.user)

    answer = send(
        desk.browser,
        f"{USERS}{desk.user.pk}/change/",
        email=desk.user.email,
        display_name="Front desk",
        is_superuser="on",
        groups=[str(admins.pk)],
        user_permissions=ids(BEYOND, "view_user"),
    )

    assert answer.status_code == 302, text(answer)
    assert of_user(desk.user) == before | {"display_name": "Front desk"}, "the rights were neither raised nor lost"


# Accounts that hold more


def _superuser() -> User:
    return User.objects.create_superuser("root@example.com", PASSWORD)


def _with_permission() -> User:
    user = User.objects.create_user("strong@example.com", PASSWORD)
    give(user, BEYOND)
    return user


def _with_group() -> User:
    user = User.objects.create_user("member@example.com", PASSWORD)
    user.groups.add(group("Admins", "view_user", BEYOND))
    return user


def _deactivated(make: Callable[[], User]) -> Callable[[], User]:
    def made() -> User:
        user = make()
        User.objects.filter(pk=user.pk).update(is_active=False)
        return user

    return made


STRONGER = {
    "superuser": _superuser,
    "deactivated superuser": _deactivated(_superuser),
    "permission": _with_permission,
    "group": _with_group,
    "deactivated, group": _deactivated(_with_group),
}


@pytest.fixture(params=list(STRONGER))
def stronger(request: pytest.FixtureRequest, database: str) -> User:
    return STRONGER[request.param]()


@pytest.mark.attack
def test_stronger_account__is_looked_at_only(desk: Desk, stronger: User) -> None:
    before, one = of_user(stronger), f"{USERS}{stronger.pk}"

    page = desk.browser.get(f"{one}/change/")
    assert page.status_code == 200
    assert 'name="_save"' not in text(page)
    assert desk.browser.get(f"{one}/password/").status_code == 403
    assert desk.browser.get(f"{one}/delete/").status_code == 403

    assert send(desk.browser, f"{one}/change/", **form_of(stronger, email="mine@example.com")).status_code == 403
    assert send(desk.browser, f"{one}/change/?_popup=1", **form_of(stronger, is_active="")).status_code == 403
    assert send(desk.browser, f"{one}/password/", **NEW_PASSWORD).status_code == 403
    assert send(desk.browser, f"{one}/delete/", post="yes").status_code == 403
    act(desk.browser, USERS, "delete_selected", desk.user.pk, stronger.pk, post="yes")
    act(desk.browser, USERS, "delete_selected", stronger.pk, post="yes", select_across="1")

    assert of_user(stronger) == before
    assert User.objects.filter(pk=desk.user.pk).exists(), "an action does all or nothing"


@pytest.mark.attack
def test_stronger_account__gained_its_rights_while_the_form_was_open__is_not_saved(desk: Desk, alice: User) -> None:
    form = form_of(alice, display_name="Mallory")
    give(alice, BEYOND)
    before = of_user(alice)

    assert send(desk.browser, f"{USERS}{alice.pk}/change/", **form).status_code == 403
    assert of_user(alice) == before


# Weaker accounts


def test_weaker_account__everything_within_is_changed(desk: Desk, alice: User) -> None:
    readers = group("Readers", "view_user")

    changes = form_of(alice, email="al@example.com", is_staff="on", groups=[str(readers.pk)])
    answer = send(desk.browser, f"{USERS}{alice.pk}/change/", **changes | {"user_permissions": ids("view_group")})

    assert answer.status_code == 302, text(answer)
    kept = {"email": "al@example.com", "is_staff": True, "groups": {"Readers"}, "user_permissions": {"view_group"}}
    assert of_user(alice).items() >= kept.items()
    assert send(desk.browser, f"{USERS}{alice.pk}/password/", **NEW_PASSWORD).status_code == 302
    assert User.objects.get(pk=alice.pk).check_password(NEW_PASSWORD["password1"])
    assert send(desk.browser, f"{USERS}{alice.pk}/delete/", post="yes").status_code == 302
    assert not User.objects.filter(pk=alice.pk).exists()


@pytest.mark.attack
def test_weaker_account__rights_beyond_ones_own__are_not_given(desk: Desk, alice: User) -> None:
    admins, before, one = group("Admins", BEYOND), of_user(alice), f"{USERS}{alice.pk}/change/"

    page = text(desk.browser.get(one))
    assert "Can view user" in page
    assert "Can delete application" not in page
    assert "Admins" not in page

    for crafted in ({"user_permissions": ids("view_user", BEYOND)}, {"groups": [str(admins.pk)]}):
        answer = send(desk.browser, one, **form_of(alice, **crafted))
        assert "is not one of the available choices" in text(answer)
        assert of_user(alice) == before
    assert send(desk.browser, one, **form_of(alice, is_superuser="on")).status_code == 302
    assert of_user(alice) == before, "a box that is not theirs to tick"


@pytest.mark.attack
@pytest.mark.parametrize("how", ["add/", "{pk}/change/"])
def test_new_account__has_no_rights_whatever_was_posted(how: str, desk: Desk, alice: User) -> None:
    admins = group("Admins", BEYOND)

    answer = send(
        desk.browser,
        USERS + how.format(pk=alice.pk),
        email="new@example.com",
        display_name="New",
        is_staff="on",
        is_superuser="on",
        groups=[str(admins.pk)],
        user_permissions=ids(BEYOND),
        _saveasnew="1",
        **NEW_PASSWORD,
    )

    assert answer.status_code == 302, text(answer)
    none: dict[str, Any] = {"is_staff": False, "is_superuser": False, "groups": set(), "user_permissions": set()}
    assert of_user(User.objects.get(email="new@example.com")).items() >= none.items()


def test_superuser__changes_everybody(database: str) -> None:
    root, other = _superuser(), User.objects.create_superuser("other@example.com", PASSWORD)
    browser = signed_in(root.email)

    answer = send(
        browser, f"{USERS}{other.pk}/change/", **form_of(other, is_superuser="", user_permissions=ids(BEYOND))
    )

    assert answer.status_code == 302, text(answer)
    assert of_user(other).items() >= {"is_superuser": False, "user_permissions": {BEYOND}}.items()


# Groups


@pytest.mark.attack
def test_group__that_carries_more__is_looked_at_only(desk: Desk) -> None:
    admins = group("Admins", "view_user", BEYOND)
    one = f"{GROUPS}{admins.pk}"

    assert desk.browser.get(f"{one}/change/").status_code == 200
    form: dict[str, str | list[str]] = {"name": "Mine", "permissions": ids("view_user")}
    assert send(desk.browser, f"{one}/change/", **form).status_code == 403
    assert send(desk.browser, f"{one}/delete/", post="yes").status_code == 403
    act(desk.browser, GROUPS, "delete_selected", admins.pk, post="yes")

    admins.refresh_from_db()
    assert admins.name == "Admins"
    assert {row.codename for row in admins.permissions.all()} == {"view_user", BEYOND}


@pytest.mark.attack
def test_group__permissions_beyond_ones_own__are_not_given(desk: Desk) -> None:
    readers = group("Readers", "view_user")

    for path_of, name in ((f"{GROUPS}{readers.pk}/change/", "Readers"), (f"{GROUPS}add/", "New")):
        answer = send(desk.browser, path_of, name=name, permissions=ids("view_user", BEYOND))
        assert "is not one of the available choices" in text(answer)
    assert {row.codename for row in readers.permissions.all()} == {"view_user"}
    assert not Group.objects.filter(name="New").exists()

    changed = send(desk.browser, f"{GROUPS}{readers.pk}/change/", name="Readers", permissions=ids("view_group"))
    assert changed.status_code == 302
    assert {row.codename for row in readers.permissions.all()} == {"view_group"}


# The rule under an admin class that knows nothing of it


class Careless(ModelAdmin):  # type: ignore[type-arg]
    """An admin that offers every column, in its form and in its list."""

    list_display = ("email", "is_superuser", "is_staff")
    list_editable = ("is_superuser", "is_staff")


class PermissionInline(TabularInline):  # type: ignore[type-arg]
    """An inline whose rows carry rights that the row above them does not carry."""

    model = Permission
    extra = 0


class ContentTypeAdmin(ModelAdmin):  # type: ignore[type-arg]
    inlines = (PermissionInline,)


site = BoundedSite(name="careless")
site.register(User, Careless)
site.register(ContentType, ContentTypeAdmin)


@pytest.mark.attack
@pytest.mark.parametrize("in_list", [True, False])
def test_careless_admin__gives_more_than_its_editor_holds__is_undone(in_list: bool, desk: Desk, alice: User) -> None:
    before = of_user(alice)
    formset = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "form-0-id": str(alice.pk)}
    form: dict[str, str | list[str]] = form_of(alice, is_superuser="on", password="x", groups=[], user_permissions=[])
    data = {**formset, "form-0-is_superuser": "on", "_save": "1"} if in_list else form
    request = RequestFactory().post(USERS, data)
    request.user = desk.user
    request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]  # Django's own flag for this.
    careless = site.get_model_admin(User)

    with pytest.raises(PermissionDenied):
        careless.changelist_view(request) if in_list else careless.change_view(request, str(alice.pk))

    assert of_user(alice) == before


@pytest.fixture
def stamp(database: str) -> Iterator[Permission]:
    """A permission that no other test misses."""
    kind = ContentType.objects.get_for_model(Group)
    made = Permission.objects.create(codename="stamp_group", name="Can stamp", content_type=kind)
    yield made
    Permission.objects.filter(pk=made.pk).delete()


@pytest.mark.attack
@pytest.mark.parametrize("is_held", [True, False])
@pytest.mark.parametrize("change", [{"DELETE": "on"}, {"name": "Harmless"}], ids=["deleted", "changed"])
def test_careless_inline__row_that_carries_more__is_left_as_it_is(
    change: dict[str, str], is_held: bool, desk: Desk, stamp: Permission
) -> None:
    give(desk.user, "change_contenttype", "view_permission", "change_permission", "delete_permission")
    if is_held:
        give(desk.user, stamp.codename)
    kind = stamp.content_type
    row = {"id": str(stamp.pk), "content_type": str(kind.pk), "name": stamp.name, "codename": stamp.codename}
    inline = {f"permission_set-0-{name}": value for name, value in (row | change).items()}
    counts = {"permission_set-TOTAL_FORMS": "1", "permission_set-INITIAL_FORMS": "1"}
    form = {"app_label": kind.app_label, "model": kind.model, "_continue": "1"}
    request = RequestFactory().post("/", {**form, **counts, **inline})
    request.user = User.objects.get(pk=desk.user.pk)
    request._messages = CookieStorage(request)  # type: ignore[attr-defined]
    request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]
    before = Permission.objects.filter(pk=stamp.pk).values().get()

    try:
        site.get_model_admin(ContentType).change_view(request, str(kind.pk))
        is_refused = False
    except PermissionDenied:
        is_refused = True

    assert is_refused == (not is_held)
    assert (Permission.objects.filter(pk=stamp.pk).values().first() == before) == is_refused


def test_within__accounts_groups_and_permissions__agree(desk: Desk, alice: User) -> None:
    strong, member = _with_permission(), _with_group()
    editor = User.objects.get(pk=desk.user.pk)

    assert set(within(editor, User.objects.all())) == {desk.user, alice}
    assert not within(editor, Group.objects.all()).exists()
    assert {row.codename for row in within(editor, Permission.objects.all())} == set(HELD)
    assert [may_change(editor, user) for user in (alice, strong, member)] == [True, False, False]
