"""A caller without a good credential, and whatever they make up, at every address: the database stays as it is."""

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from django.db import connection
from django.urls import URLPattern, get_resolver

from asgi import api
from project.accounts.models import User
from project.clients.models import Client
from project.identity.keys import signing_key
from project.identity.limits import limiter
from tests.fixtures import in_thread
from tests.identity.flows import CALLBACK

pytestmark = [pytest.mark.attack, pytest.mark.asyncio]

CREDENTIALS = [
    {},
    {"Authorization": "Bearer e30.e30.e30"},
    {"Authorization": f"Bearer tdm_{'x' * 43}"},
    {"Authorization": "Basic bWFkZS11cDptYWRlLXVw"},
    {"Cookie": f"sessionid={'x' * 32}; csrftoken={'x' * 32}", "X-CSRFToken": "x" * 32},
]
NAMES = (
    "assertion", "client_assertion", "client_secret", "code", "code_verifier", "device_code", "id_token_hint", "next",
    "password", "post_logout_redirect_uri", "redirect_uri", "refresh_token", "scope", "state", "token", "user_code",
)  # fmt: skip
PARAMETERS = {**dict.fromkeys(NAMES, "made-up"), "response_type": "code", "csrfmiddlewaretoken": "x" * 32}
GRANT_TYPES = (
    "authorization_code",
    "refresh_token",
    "client_credentials",
    "password",
    "urn:ietf:params:oauth:grant-type:device_code",
)


def addresses() -> Iterator[str]:
    """Every address of both halves, with a made-up value where its path has a parameter."""
    for path in (*(f"/api{route.path}" for route in api.routes), *_paths(get_resolver().url_patterns)):  # type: ignore[attr-defined]
        yield re.sub(r"<[^>]+>|\{[^}]+\}|\(\?P.*", "7", path)
    yield from ("/healthz", "/readyz")


def _paths(patterns: Any, before: str = "/") -> Iterator[str]:
    for pattern in patterns:
        path = f"{before}{pattern.pattern}"
        if isinstance(pattern, URLPattern):
            yield path
        else:
            yield from _paths(pattern.url_patterns, path)


def all_rows() -> dict[str, list[str]]:
    with connection.cursor() as cursor:
        rows = {}
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            rows[table] = sorted(map(repr, cursor.fetchall()))
    return rows


async def test_anonymous_requests__write_nothing(client: httpx2.AsyncClient, alice: User, web: Client) -> None:
    in_thread(signing_key)  # The first request for it makes it.
    before = in_thread(all_rows)
    shown = {**PARAMETERS, "username": alice.email, "email": alice.email}

    for address in sorted(set(addresses())):
        is_admin = address.startswith("/admin/")  # One view refuses them all.
        for credential in CREDENTIALS[-1:] if is_admin else CREDENTIALS:
            await client.get(address, params={**shown, "client_id": web.client_id}, headers=credential)
            await client.post(address, data={**shown, "client_id": web.client_id}, headers=credential)
        for method in () if is_admin else ("POST", "PUT", "PATCH", "DELETE"):
            headers = {"Idempotency-Key": "made-up", "If-Match": "*", **CREDENTIALS[1]}
            await client.request(method, address, json=[shown], headers=headers)
        limiter().reset()
    made_up = {"code": "made-up", "code_verifier": "x" * 43, "refresh_token": "made-up", "device_code": "made-up"}
    for grant_type in GRANT_TYPES:
        for client_id in (web.client_id, "made-up"):
            fields = {**made_up, "grant_type": grant_type, "client_id": client_id, "redirect_uri": CALLBACK}
            assert (await client.post("/o/token/", data=fields)).status_code in {400, 401}

    assert in_thread(all_rows) == before
