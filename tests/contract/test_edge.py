"""What stands around the API: other origins, security headers and policies, compression."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import Message

from fastapi_app.core.edge import COMPRESS_FROM_BYTES, Compression, security_headers
from project.accounts.models import User
from project.config import BASE_DIR, Config
from tests.asgi.server import Server, serving
from tests.fixtures import IssueToken, bearer

ORIGIN = {"origin": "https://app.example.com"}
ZSTD = b"\x28\xb5\x2f\xfd"

# Other origins


@pytest.fixture(scope="module")
def open_server(migrated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The product, which lets one other origin in."""
    log = tmp_path_factory.mktemp("open") / "log"
    with serving(log, env={"CORS_ORIGINS": "https://app.example.com"}) as server:
        yield server


def test_origin__that_is_allowed__may_send_what_the_api_reads_and_read_what_it_sends(
    open_server: Server, database: str
) -> None:
    wanted = {"access-control-request-method": "PATCH", "access-control-request-headers": "authorization,if-match"}
    with open_server.client() as client:
        preflight = client.options("/api/v1/users/1", headers={**ORIGIN, **wanted})
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "PATCH" in preflight.headers["access-control-allow-methods"]
        assert "if-match" in preflight.headers["access-control-allow-headers"].lower()

        answer = client.get("/api/v1/users", headers=ORIGIN)
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        assert {"ETag", "Link", "Location", "Retry-After", "X-Request-ID"} <= set(
            answer.headers["access-control-expose-headers"].split(", ")
        )
        assert "access-control-allow-credentials" not in answer.headers

        assert answer.headers.get_list("vary", split_commas=True).count("Origin") == 1
        assert "Origin" in client.get("/api/v1/users").headers["vary"], "a cache must not give this to a browser"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/o/token/"),
        ("POST", "/o/revoke/"),
        ("GET", "/o/userinfo/"),
        ("POST", "/o/register/"),
        ("PUT", "/o/register/a-client/"),
    ],
)
def test_origin__that_is_allowed__may_get_itself_a_token(
    method: str, path: str, open_server: Server, database: str
) -> None:
    wanted = {"access-control-request-method": method, "access-control-request-headers": "authorization,content-type"}
    with open_server.client() as client:
        preflight = client.options(path, headers={**ORIGIN, **wanted})
        answer = client.request(method, path, headers=ORIGIN)

        metadata = [
            client.get(f"/.well-known/{name}", headers=ORIGIN) for name in ("openid-configuration", "jwks.json")
        ]

    assert [found.headers.get_list("access-control-allow-origin") for found in metadata] == [["*"], ["*"]]
    assert preflight.status_code == 200
    assert answer.headers.get_list("access-control-allow-origin") == ["https://app.example.com"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("/api/v1/users", "https://evil.example"),
        ("/api/v1/users", "http://app.example.com"),
        ("/api/v1/users", "null"),
        ("/o/token/", "https://evil.example"),
        ("/admin/login/", "https://app.example.com"),
        ("/accounts/login/", "https://app.example.com"),
        ("/o/authorize/", "https://app.example.com"),
        ("/healthz", "https://app.example.com"),
    ],
)
def test_origin__another_or_to_another_place__gets_no_leave(
    path: str, origin: str, open_server: Server, database: str
) -> None:
    with open_server.client() as client:
        answer = client.get(path, headers={"origin": origin})

    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.asyncio
async def test_origin__by_default__none_gets_leave(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/api/v1/users", headers=ORIGIN)

    assert not [name for name in answer.headers if name.startswith("access-control")]
    asks = {**ORIGIN, "access-control-request-method": "GET"}
    assert (await client.options("/api/v1/users", headers=asks)).status_code == 405


# Security headers


def production(**values: object) -> Config:
    secrets = {"secret_key": "x" * 64, "database_url": "postgresql://tandem@127.0.0.1/tandem"}
    names = {"allowed_hosts": "example.com", "base_url": "https://example.com"}
    return Config(environment="production", **{**secrets, **names, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "value"),
    [
        ({}, "max-age=31536000"),
        ({"hsts_include_subdomains": True}, "max-age=31536000; includeSubDomains"),
        ({"hsts_include_subdomains": True, "hsts_preload": True}, "max-age=31536000; includeSubDomains; preload"),
        ({"base_url": "http://example.com", "hsts_include_subdomains": True}, None),
    ],
)
def test_security_headers__hsts__is_for_the_host_alone_unless_more_is_chosen(
    values: dict[str, object], value: str | None
) -> None:
    assert security_headers(production(**values)).get("Strict-Transport-Security") == value
    assert "Strict-Transport-Security" not in security_headers(Config(environment="development"))


@pytest.mark.parametrize("chosen", [{}, {"HSTS_INCLUDE_SUBDOMAINS": "true", "HSTS_PRELOAD": "true"}])
def test_security_headers__hsts__is_the_same_of_both_halves(chosen: dict[str, str]) -> None:
    """In a process of its own, because Django's settings are read once."""
    script = """
import django; django.setup()
from django.conf import settings
from django.test import RequestFactory
from django.middleware.security import SecurityMiddleware
from django.http import HttpResponse
from fastapi_app.core.edge import security_headers
from project.config import config
request = RequestFactory().get("/", secure=True, HTTP_HOST="example.com")
page = SecurityMiddleware(lambda request: HttpResponse())(request)
print(page.headers["Strict-Transport-Security"] == security_headers(config)["Strict-Transport-Security"])
print(page.headers["Strict-Transport-Security"])
"""
    env = {
        **os.environ, "ENVIRONMENT": "production", "SECRET_KEY": "x" * 64, "ALLOWED_HOSTS": "example.com",
        "BASE_URL": "https://example.com", "DATABASE_URL": "postgresql://tandem@127.0.0.1/tandem",
        "DJANGO_SETTINGS_MODULE": "project.settings", **chosen,
    }  # fmt: skip
    ran = subprocess.run([sys.executable, "-c", script], env=env, cwd=BASE_DIR, check=True, capture_output=True)

    expected = "max-age=31536000; includeSubDomains; preload" if chosen else "max-age=31536000"
    assert ran.stdout.decode().splitlines() == ["True", expected]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "path", ["/api/v1/users", "/api/v1/openapi.json", "/api/problems", "/api/nowhere", "/", "/admin/login/"]
)
async def test_security_headers__are_on_every_answer(path: str, client: httpx2.AsyncClient) -> None:
    headers = (await client.get(path)).headers

    assert headers.get_list("x-content-type-options") == ["nosniff"]
    assert headers.get_list("referrer-policy") == ["same-origin"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "path",
    [
        *("/api/v1/docs", "/api/docs/oauth2-redirect", "/api/problems", "/api/problems/not-found"),
        *("/", "/admin/login/", "/accounts/login/"),
    ],
)
async def test_pages__allow_no_script_or_style_but_their_own(path: str, client: httpx2.AsyncClient) -> None:
    page = await client.get(path)

    (policy,) = page.headers.get_list("content-security-policy")
    directives = dict(directive.strip().partition(" ")[::2] for directive in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["base-uri"] == directives["frame-ancestors"] == "'none'"
    assert "unsafe" not in policy
    assert "http" not in policy
    for inline in ("<style", "<script>"):
        if inline in page.text:
            assert "nonce-" in policy or "sha256-" in policy


@pytest.mark.asyncio
async def test_home__its_inline_style__has_the_nonce_of_the_policy(client: httpx2.AsyncClient) -> None:
    pages = [await client.get("/"), await client.get("/")]

    nonces = [page.text.partition('<style nonce="')[2].partition('"')[0] for page in pages]
    for page, nonce in zip(pages, nonces, strict=True):
        assert nonce
        assert f"'nonce-{nonce}'" in page.headers["content-security-policy"]
    assert nonces[0] != nonces[1]


# Compression


@pytest.mark.asyncio
async def test_compression__of_what_is_worth_it__below_the_api_only(
    client: httpx2.AsyncClient, alice: User, issue_token: IssueToken
) -> None:
    for number in range(20):
        await User.objects.acreate(email=f"user{number}@example.com")
    client.headers.update(bearer(issue_token(alice, "users:read")))

    async def coding_of(path: str, accepted: str) -> str | None:
        answer = await client.get(path, headers={"accept-encoding": accepted})
        assert answer.status_code == 200
        coding = answer.headers.get("content-encoding")
        if path == "/api/v1/users":  # The client does not know zstd, whose frames begin so (RFC 8878, section 3.1.1).
            assert answer.content.startswith(ZSTD) if coding == "zstd" else answer.json() == plain.json()
        return coding

    plain = await client.get("/api/v1/users", headers={"accept-encoding": "identity"})
    assert len(plain.content) > COMPRESS_FROM_BYTES
    assert "content-encoding" not in plain.headers
    assert await coding_of("/api/v1/users", "gzip") == "gzip"
    assert await coding_of("/api/v1/users", "gzip, br") == "br"
    assert await coding_of("/api/v1/users", "gzip, br, zstd") == "zstd"
    assert await coding_of("/api/v1/users/me", "gzip") is None, "too small to be worth it"
    assert await coding_of("/admin/login/", "gzip") is None, "a page with a secret in it is not compressed"


@pytest.mark.asyncio
async def test_compression__events__leave_one_by_one_as_they_are() -> None:
    sent: list[str] = []

    async def events(_request: Request) -> StreamingResponse:
        async def happen() -> AsyncIterator[str]:
            for number in range(3):
                yield f"data: {number}\n\n"
                sent.append(f"{number} is out")

        return StreamingResponse(happen(), media_type="text/event-stream")

    async def send(message: Message) -> None:
        if body := message.get("body", b""):
            sent.append(body.decode().strip())

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [(b"accept-encoding", b"gzip")],
        "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1",
    }  # fmt: skip
    await Starlette(routes=[Route("/", events)], middleware=[Middleware(Compression)])(scope, receive, send)

    assert sent == ["data: 0", "0 is out", "data: 1", "1 is out", "data: 2", "2 is out"]
