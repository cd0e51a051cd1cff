"""``resource`` (RFC 8707) at every endpoint that takes it, and the metadata that lead there (RFC 9728)."""

from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from django.test import Client as DjangoClient

from project.clients.models import Client
from project.config import config
from project.identity import metadata, resources
from project.identity.models import DeviceResources
from tests.fixtures import bearer
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
    log_in_at,
    machine_client,
    post,
    refresh,
    sent_back,
    web_client,
)

API = "http://127.0.0.1:8000/api"
MCP = "http://127.0.0.1:8000/mcp"

REFUSED = pytest.mark.parametrize(
    "resource",
    [
        "https://elsewhere.example.com/api",
        "/api",
        "api",
        f"{API}#part",
        f"{API}/",
        f"{API}?x=1",
        "http://127.0.0.1:8000/API",
        "http://127.0.0.1:8000@evil.example.com/api",
        "http://[::1/api",
        "http://127.0.0.1:99999999/api",
        "urn:example",
        " ",
        "\ud55c\uad6d",
        f"{API}/" + "a" * 20_000,
    ],
)


@pytest.fixture(autouse=True)
def _mcp_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    known = config.model_copy(update={"resource_identifiers": (MCP,)})
    for module in (resources, metadata):
        monkeypatch.setattr(module, "config", known)


def audience(answer: Any) -> Any:
    assert answer.status_code == 200, answer.content
    return claims(answer.json()["access_token"])["aud"]


def of_machine(body: str) -> Any:
    body = f"grant_type=client_credentials&client_id=machine&client_secret={SECRET}&{body}"
    return DjangoClient().post("/o/token/", body, "application/x-www-form-urlencoded")


@pytest.mark.attack
@REFUSED
def test_authorize__unknown_resource__is_an_invalid_target(resource: str, browser: Browser, web: Client) -> None:
    answer = browser.get(authorize_path(web, Verifier(), resource=resource))

    back = sent_back(answer)
    assert (back["error"], back["state"]) == ("invalid_target", "a-state")


@pytest.mark.attack
@REFUSED
def test_token__unknown_resource__is_an_invalid_target(resource: str, browser: Browser, web: Client) -> None:
    machine_client()
    pkce = Verifier()
    code = get_code(browser, web, pkce, resource=API)

    assert of_machine(f"resource={quote(resource)}").json()["error"] == "invalid_target"
    refused = exchange(web, code, pkce, resource=resource)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_target")


@pytest.mark.attack
@pytest.mark.parametrize("value", ["%00", "%FF", f"{quote(API)}%00", f"{quote(API)}&resource=%FF"])
def test_resource__nul_and_bytes_that_are_no_text__are_refused(value: str, browser: Browser, web: Client) -> None:
    machine_client()
    web_client("tv", authorization_grant_type=DEVICE_CODE, redirect_uris="")
    form = "application/x-www-form-urlencoded"
    device = DjangoClient().post("/o/device-authorization/", f"client_id=tv&resource={value}", form)

    assert browser.http.get(f"{authorize_path(web, Verifier())}&resource={value}").status_code in (302, 400)
    assert of_machine(f"resource={value}").status_code == 400
    assert device.status_code == 400


def test_resource__of_the_api__is_the_audience_through_every_refresh(browser: Browser, web: Client) -> None:
    tokens = log_in_at(web, browser, resource=API)

    assert claims(tokens["access_token"])["aud"] == API
    fresh = refresh(web, tokens["refresh_token"])
    assert audience(fresh) == API
    assert audience(refresh(web, fresh.json()["refresh_token"], resource=API)) == API


def test_resource__several__are_narrowed_by_each_request_for_itself(browser: Browser, web: Client) -> None:
    pkce = Verifier()
    both = f"{authorize_path(web, pkce)}&resource={quote(API)}&resource={quote(MCP)}&resource={quote(API)}&resource="
    code = sent_back(browser.submit(both, decision="allow"))["code"]

    narrowed = exchange(web, code, pkce, resource=MCP)

    assert audience(narrowed) == MCP
    again = refresh(web, narrowed.json()["refresh_token"])
    assert audience(again) == [API, MCP], "the log-in keeps what was granted"
    assert audience(refresh(web, again.json()["refresh_token"], resource=API)) == API


@pytest.mark.attack
def test_resource__wider_than_what_was_granted__is_an_invalid_target(browser: Browser, web: Client) -> None:
    pkce = Verifier()
    code = get_code(browser, web, pkce, resource=API)

    assert exchange(web, code, pkce, resource=MCP).json()["error"] == "invalid_target"
    tokens = exchange(web, code, pkce).json()
    assert refresh(web, tokens["refresh_token"], resource=MCP).json()["error"] == "invalid_target"
    unnamed = log_in_at(web, browser)
    assert refresh(web, unnamed["refresh_token"], resource=MCP).json()["error"] == "invalid_target"


def test_resource__none_or_empty__leaves_the_configured_audience(browser: Browser, web: Client) -> None:
    machine_client()
    tokens = log_in_at(web, browser)

    assert claims(tokens["access_token"])["aud"] == config.api_audience
    assert audience(refresh(web, tokens["refresh_token"], resource="")) == config.api_audience
    assert audience(of_machine("resource=")) == config.api_audience


def test_resource__of_a_machine__is_its_audience(database: str) -> None:
    machine_client()

    assert audience(of_machine(f"resource={quote(MCP)}")) == MCP
    assert audience(of_machine(f"resource={quote(API)}&resource={quote(MCP)}")) == [API, MCP]


@pytest.mark.attack
def test_resource__no_longer_configured__is_not_refreshed(
    browser: Browser, web: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = log_in_at(web, browser, resource=MCP)
    monkeypatch.setattr(resources, "config", config)

    assert refresh(web, tokens["refresh_token"]).json()["error"] == "invalid_target"


def test_device__with_a_resource__gets_tokens_for_it(browser: Browser) -> None:
    television = web_client("tv", authorization_grant_type=DEVICE_CODE, redirect_uris="")
    refused = post("/o/device-authorization/", client_id="tv", resource="https://elsewhere.example.com")
    assert refused.json()["error"] == "invalid_target"
    device = post("/o/device-authorization/", client_id="tv", scope="users:read", resource=MCP).json()
    page = browser.submit("/device/", user_code=device["user_code"])
    assert f"<strong>{MCP}</strong>" in page.content.decode()
    browser.submit("/device/", page, decision="allow")
    poll = {"grant_type": DEVICE_CODE, "client_id": "tv", "device_code": device["device_code"]}

    tokens = post("/o/token/", **poll)

    assert audience(tokens) == MCP
    assert audience(refresh(television, tokens.json()["refresh_token"])) == MCP
    assert DeviceResources.objects.get().resources == [MCP]


@pytest.mark.attack
@pytest.mark.asyncio
@pytest.mark.parametrize(("resource", "status"), [(API, 200), ("", 200), (MCP, 401)])
async def test_api__takes_tokens_for_itself_only(
    resource: str, status: int, database: str, client: httpx2.AsyncClient
) -> None:
    from asgiref.sync import sync_to_async  # noqa: PLC0415

    def token() -> str:
        if not Client.objects.filter(client_id="machine").exists():
            machine_client()
        return str(of_machine(f"resource={quote(resource)}").json()["access_token"])

    answer = await client.get("/api/v1/users", headers=bearer(await sync_to_async(token)()))

    assert answer.status_code == status


@pytest.mark.parametrize("path", ["", "/api"])
def test_protected_resource_metadata__describe_the_api(path: str) -> None:
    answer: Any = DjangoClient().get(f"/.well-known/oauth-protected-resource{path}")

    assert answer["Access-Control-Allow-Origin"] == "*"
    assert answer.json() == {
        "resource": API,
        "authorization_servers": ["http://127.0.0.1:8000"],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["users:read", "users:write"],
        "resource_name": "Tandem API",
    }


def test_protected_resource_metadata__of_others__are_there_when_configured() -> None:
    answer: Any = DjangoClient().get("/.well-known/oauth-protected-resource/mcp")

    assert answer.json()["resource"] == MCP
    assert DjangoClient().get("/.well-known/oauth-protected-resource/admin").status_code == 404


def test_protected_resource_metadata__below_a_path__are_found_in_both_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "config", config.model_copy(update={"base_url": "https://example.com/a"}))

    for path in ("", "/api", "/a/api"):
        answer: Any = DjangoClient().get(f"/.well-known/oauth-protected-resource{path}")
        assert answer.json()["resource"] == "https://example.com/a/api"
    assert DjangoClient().get("/.well-known/oauth-protected-resource/b/api").status_code == 404


def test_consent__names_the_resources(browser: Browser, web: Client) -> None:
    page = browser.get(authorize_path(web, Verifier(), resource=MCP))

    assert f"<strong>{MCP}</strong>" in page.content.decode()
    assert CALLBACK not in page.content.decode()
