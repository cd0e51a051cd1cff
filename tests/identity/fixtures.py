"""The people and clients of these stories."""

import pytest

from project.accounts.models import User
from project.clients.models import Client
from tests.fixtures import give
from tests.identity.flows import Browser, web_client


@pytest.fixture
def reader(alice: User) -> User:
    """Alice, who may see the people."""
    give(alice, "view_user")
    return alice


@pytest.fixture
def browser(reader: User) -> Browser:
    """Alice's browser, logged in."""
    browser = Browser()
    assert browser.log_in().status_code == 302
    return browser


@pytest.fixture
def web(database: str) -> Client:
    return web_client()
