"""A staff member's browser in the admin."""

import re
from typing import Any

from django.contrib.auth.models import Group, Permission

from project.accounts.models import User
from tests.fixtures import give
from tests.identity.flows import Browser

PASSWORD = "open sesame 42"


def staff(*permissions: str, email: str = "desk@example.com") -> tuple[User, Browser]:
    """A staff member with these permissions and no others, signed in."""
    user = User.objects.create_user(email, PASSWORD, is_staff=True, display_name="Desk")
    give(user, *permissions)
    return user, signed_in(email)


def signed_in(email: str) -> Browser:
    browser = Browser()
    assert browser.submit("/admin/login/", username=email, password=PASSWORD).status_code == 302
    return browser


def group(name: str, *permissions: str) -> Group:
    made = Group.objects.create(name=name)
    give(made, *permissions)
    return made


def ids(*permissions: str) -> list[str]:
    return [str(Permission.objects.get(codename=name).pk) for name in permissions]


def text(answer: Any) -> str:
    return str(answer.content.decode())


def send(browser: Browser, path: str, **fields: str | list[str]) -> Any:
    """Post a form that a person crafted, whether or not the page at ``path`` offers it."""
    page = text(browser.get("/admin/password_change/"))
    (token,) = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[:1]
    return browser.http.post(path, {"csrfmiddlewaretoken": token, **fields})


def act(browser: Browser, path: str, action: str, *rows: int, **fields: str) -> Any:
    """Run an action on rows of the list at ``path``, whether or not the list offers it."""
    return send(browser, path, action=action, _selected_action=[str(row) for row in rows], **fields)
