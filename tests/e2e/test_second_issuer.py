"""An OpenID Connect provider that this project did not write, trusted by configuration alone.

It is npm's ``oidc-provider``, in a process of its own; so is the server that is told to trust it.
"""

import base64
import hashlib
import json
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2
import pytest

from project.accounts.models import User
from project.config import config
from project.identity.models import ExternalIdentity
from tests.asgi.server import PATIENCE_S, Server, serving
from tests.fixtures import IssueToken, bearer, give
from tests.npm import installed

FOLDER = Path(__file__).parent / "node" / "oidc-provider"
REDIRECT_URI = "http://127.0.0.1/callback"
RESOURCE = "urn:tandem"
"""What the provider is asked for a token for; it names the audience ``tandem-api`` in it."""


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """The provider's address, which is its name."""
    process = subprocess.Popen(
        ["node", "provider.mjs"],  # noqa: S607  Wherever the machine has it.
        cwd=installed(FOLDER),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("issuer "), "the provider did not start"
        yield line.split()[1]
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="module")
def server(migrated: None, issuer: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The product, told about the provider and nothing else."""
    trusted = {
        "issuer": issuer,
        "audiences": ["tandem-api"],
        "users": "email",
        "machine_when": {"sub": "{client_id}"},
    }
    env = {"DATABASE_URL": config.database, "TRUSTED_ISSUERS": json.dumps([trusted])}
    with serving(tmp_path_factory.mktemp("server") / "log", env=env) as running:
        yield running


def discovered(issuer: str) -> dict[str, Any]:
    document: dict[str, Any] = httpx2.get(f"{issuer}/.well-known/openid-configuration").json()
    return document


def log_in(issuer: str, name: str, scope: str, resource: str = RESOURCE) -> dict[str, Any]:
    """Tokens of somebody who logged in at the provider and consented (code and PKCE, RFC 7636)."""
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    parameters = {
        "client_id": "web",
        "response_type": "code",
        "redirect_uri": REDIRECT_URI,
        "scope": f"openid {scope}",
        "resource": resource,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    endpoints = discovered(issuer)
    with httpx2.Client(timeout=PATIENCE_S) as browser:
        answer = browser.get(endpoints["authorization_endpoint"], params=parameters)
        while not (place := urljoin(str(answer.url), answer.headers.get("location", ""))).startswith(REDIRECT_URI):
            if answer.is_redirect:
                answer = browser.get(place)
                continue
            prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
            assert prompt, answer.text
            form = {"prompt": prompt[1], "login": name, "password": "anything"}
            answer = browser.post(str(answer.url), data=form)
        (code,) = parse_qs(urlsplit(place).query)["code"]
        exchange = {
            "grant_type": "authorization_code",
            "client_id": "web",
            "code": code,
            "redirect_uri": REDIRECT_URI,
            "code_verifier": verifier,
        }
        tokens: dict[str, Any] = browser.post(endpoints["token_endpoint"], data=exchange).raise_for_status().json()
    return tokens


def machine_token(issuer: str, scope: str) -> str:
    answer = httpx2.post(
        discovered(issuer)["token_endpoint"],
        data={"grant_type": "client_credentials", "scope": scope, "resource": RESOURCE},
        auth=("robot", "not-a-secret-outside-of-this-test"),
    )
    return str(answer.raise_for_status().json()["access_token"])


def get(server: Server, path: str, token: str) -> httpx2.Response:
    return httpx2.get(f"{server.url}/api/v1/users{path}", headers=bearer(token), timeout=PATIENCE_S)


def test_user__logged_in_elsewhere__is_the_one_with_their_verified_address(
    server: Server, issuer: str, alice: User
) -> None:
    give(alice, "view_user")
    token = log_in(issuer, "alice", "users:read users:write")["access_token"]

    assert get(server, "/me", token).json()["id"] == alice.pk
    assert get(server, "", token).status_code == 200
    answer = httpx2.post(f"{server.url}/api/v1/users", headers=bearer(token), json={"email": "new@example.com"})
    assert answer.status_code == 403, "the token has the scope, Alice lacks the permission"
    identity = ExternalIdentity.objects.get()
    assert (identity.issuer, identity.subject, identity.user_id) == (issuer, "alice", alice.pk)


def test_user__deactivated_here__is_refused_though_the_provider_would_go_on(
    server: Server, issuer: str, alice: User, issue_token: IssueToken
) -> None:
    token = log_in(issuer, "alice", "users:read")["access_token"]
    assert get(server, "/me", token).status_code == 200

    admin = User.objects.create_user("manager@example.com")
    httpx2.delete(
        f"{server.url}/api/v1/users/{alice.pk}", headers=bearer(issue_token(admin, "users:write"))
    ).raise_for_status()

    began = time.monotonic()
    while get(server, "/me", token).status_code != 401:
        assert time.monotonic() - began < 3
    assert get(server, "/me", log_in(issuer, "alice", "users:read")["access_token"]).status_code == 401


def test_user__nobody_here__is_refused(server: Server, issuer: str, database: str) -> None:
    token = log_in(issuer, "stranger", "users:read")["access_token"]

    answer = get(server, "/me", token)

    assert answer.status_code == 401
    assert "it speaks for no user here" in answer.json()["detail"]
    assert not User.objects.filter(email="stranger@example.com").exists()


def test_machine__of_the_provider__has_what_its_client_was_granted(server: Server, issuer: str, alice: User) -> None:
    token = machine_token(issuer, "users:read")

    assert get(server, f"/{alice.pk}", token).status_code == 200
    assert get(server, "/me", token).status_code == 403


@pytest.mark.parametrize("kind", ["an ID token", "a token for another API", "an opaque token"])
def test_token__of_the_provider_for_something_else__is_refused(
    kind: str, server: Server, issuer: str, alice: User
) -> None:
    tokens: dict[str, Callable[[], str]] = {
        "an ID token": lambda: log_in(issuer, "alice", "users:read")["id_token"],
        "a token for another API": lambda: log_in(issuer, "alice", "users:read", "urn:other")["access_token"],
        "an opaque token": lambda: secrets.token_urlsafe(32),
    }

    assert get(server, "/me", tokens[kind]()).status_code == 401
    assert not ExternalIdentity.objects.exists()


def test_token__where_the_provider_is_not_trusted__is_refused(issuer: str, alice: User, tmp_path: Path) -> None:
    with serving(tmp_path / "log", env={"DATABASE_URL": config.database}) as untold:
        answer = get(untold, "/me", log_in(issuer, "alice", "users:read")["access_token"])

    assert answer.status_code == 401
    assert "its issuer is not trusted" in answer.json()["detail"]
