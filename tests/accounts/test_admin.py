"""The admin through the composite, as a person uses it: cookies, CSRF tokens, forms."""

import re

import httpx2
import pytest
import pytest_asyncio

from project.accounts.models import User

pytestmark = pytest.mark.asyncio

PASSWORD = "open sesame 42"


@pytest.fixture
def administrator(database: str) -> User:
    return User.objects.create_superuser("root@example.com", PASSWORD)


async def submit(client: httpx2.AsyncClient, path: str, **fields: str) -> httpx2.Response:
    """Open a form, fill it in as a browser would, send it, and follow where it leads."""
    page = (await client.get(path)).text
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))
    return await client.post(
        path, data={**hidden, **fields}, headers={"referer": "http://testserver"}, follow_redirects=True
    )


async def log_in(client: httpx2.AsyncClient, email: str, password: str) -> httpx2.Response:
    return await submit(client, "/admin/login/?next=/admin/", username=email, password=password)


@pytest_asyncio.fixture
async def admin(client: httpx2.AsyncClient, administrator: User) -> httpx2.AsyncClient:
    await log_in(client, administrator.email, PASSWORD)
    return client


async def test_login__by_address_in_any_case__opens_the_admin(
    client: httpx2.AsyncClient, administrator: User, alice: User
) -> None:
    assert "Site administration" not in (await log_in(client, "root@example.com", "wrong")).text
    assert "Site administration" not in (await log_in(client, "alice@example.com", "correct horse")).text, "no staff"

    page = await log_in(client, "ROOT@Example.com", PASSWORD)

    assert "Site administration" in page.text
    assert "Users" in page.text
    assert "Groups" in page.text


async def test_changelist__search_and_filters__narrow_it(admin: httpx2.AsyncClient, alice: User, bob: User) -> None:
    async def shown(query: str) -> set[str]:
        page = (await admin.get(f"/admin/accounts/user/?{query}")).text
        return set(re.findall(r"(\w+)@example\.com</a></th>", page))

    assert {"alice", "bob", "root"} <= await shown("")
    assert await shown("q=alice") == {"alice"}
    assert await shown("is_staff__exact=0") == {"alice", "bob"}
    assert await shown("is_active__exact=0") == set()


async def test_add__with_a_password__lets_them_log_in(admin: httpx2.AsyncClient, client: httpx2.AsyncClient) -> None:
    page = await submit(
        admin,
        "/admin/accounts/user/add/",
        email="New@Example.com",
        display_name="New",
        usable_password="true",
        password1=PASSWORD,
        password2=PASSWORD,
    )

    assert "was added successfully" in page.text
    user = await User.objects.aget(email="new@example.com")
    assert user.check_password(PASSWORD)


async def test_add__address_is_taken_in_another_case__says_so(admin: httpx2.AsyncClient, alice: User) -> None:
    page = await submit(
        admin,
        "/admin/accounts/user/add/",
        email="ALICE@example.com",
        usable_password="true",
        password1=PASSWORD,
        password2=PASSWORD,
    )

    assert "A user with this e-mail address exists already." in page.text


async def test_change__name_groups_and_activity__are_saved(admin: httpx2.AsyncClient, alice: User) -> None:
    path = f"/admin/accounts/user/{alice.pk}/change/"
    assert "Permissions" in (await admin.get(path)).text

    page = await submit(admin, path, email="alice@example.com", display_name="Alicia")

    assert "was changed successfully" in page.text
    await alice.arefresh_from_db()
    assert alice.display_name == "Alicia"
    assert not alice.is_active, "its box was left empty"
    assert alice.check_password("correct horse"), "the password is not this form's business"


async def test_password__changed_by_an_administrator_and_by_oneself(
    admin: httpx2.AsyncClient, alice: User, administrator: User
) -> None:
    page = await submit(
        admin,
        f"/admin/accounts/user/{alice.pk}/password/",
        usable_password="true",
        password1="another one 42",
        password2="another one 42",
    )
    assert "Password changed successfully" in page.text
    await alice.arefresh_from_db()
    assert alice.check_password("another one 42")

    page = await submit(
        admin,
        "/admin/password_change/",
        old_password=PASSWORD,
        new_password1="my own 4242",
        new_password2="my own 4242",
    )
    assert "Your password was changed" in page.text
    await administrator.arefresh_from_db()
    assert administrator.check_password("my own 4242")


async def test_form__without_a_csrf_token__is_refused(admin: httpx2.AsyncClient, alice: User) -> None:
    answer = await admin.post(f"/admin/accounts/user/{alice.pk}/delete/", data={"post": "yes"})

    assert answer.status_code == 403
    assert await User.objects.filter(pk=alice.pk).aexists()


async def test_session_of_the_admin__means_nothing_to_the_api(admin: httpx2.AsyncClient) -> None:
    assert (await admin.get("/api/v1/users")).status_code == 401
