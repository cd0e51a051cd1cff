"""OAuth client libraries that this project did not write, against a real server: every flow, from discovery on."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oidc.discovery import OpenIDProviderMetadata, get_well_known_url
from joserfc import jwt
from joserfc.jwk import KeySet

from project.accounts.models import User
from project.config import config
from project.identity.hashers import BoundedArgon2PasswordHasher
from tests.asgi.server import PATIENCE_S, Server, serving
from tests.fixtures import absent, give
from tests.identity.flows import DEVICE_CODE, SECRET, hidden_fields, machine_client, web_client
from tests.npm import installed

CALLBACK = "http://127.0.0.1:53123/callback"
NODE = Path(__file__).parent / "node"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server(migrated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The product where BASE_URL says that it is, because a client believes its discovery document."""
    port = free_port()
    env = {"DATABASE_URL": config.database, "BASE_URL": f"http://127.0.0.1:{port}"}
    with serving(tmp_path_factory.mktemp("oauth") / "log", "--port", str(port), env=env) as running:
        yield running


@pytest.fixture
def person(alice: User, server: Server) -> Iterator["Person"]:
    """Alice at her browser, not logged in yet; and the clients that she and a machine use."""
    give(alice, "view_user")
    hasher = BoundedArgon2PasswordHasher()  # The server knows none of the tests' cheap ones.
    User.objects.update(password=hasher.encode("correct horse", hasher.salt()))
    web_client(redirect_uris="http://127.0.0.1/callback")
    web_client("tv", authorization_grant_type=DEVICE_CODE)
    machine_client(may_introspect=True)
    with server.client() as http:
        yield Person(http)


class Person:
    """Fills in the forms that come, as a person would."""

    def __init__(self, http: httpx2.Client) -> None:
        self.http = http

    def let_in(self, address: str) -> str:
        """Open ``address``, log in where asked to, allow; the address that the browser is sent to at the end."""
        answer = self.http.get(address)
        while not answer.headers.get("location", "").startswith(CALLBACK):
            if "location" in answer.headers:
                answer = self.http.get(answer.headers["location"])
            elif "is connected" in answer.text:
                return str(answer.url)
            else:
                answer = self._fill_in(answer)
        return answer.headers["location"]

    def _fill_in(self, page: httpx2.Response) -> httpx2.Response:
        fields = {"decision": "allow"}
        if 'name="password"' in page.text:
            fields = {"username": "alice@example.com", "password": "correct horse"}
        elif "Type the code" in page.text:
            fields = {"user_code": parse_qs(urlsplit(str(page.url)).query)["user_code"][0]}
        data = {**hidden_fields(page), **fields}  # type: ignore[arg-type]
        answer = self.http.post(page.url, data=data, headers={"referer": str(page.url)})
        assert answer.status_code < 400, answer.text
        return answer


@pytest.fixture
def authlib() -> Iterator[Callable[..., OAuth2Client]]:
    """Makes Authlib's clients, and closes them."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(OAuth2Client(*arguments, **options))


def metadata(server: Server) -> dict[str, Any]:
    """The discovery document, judged by Authlib."""
    document = httpx2.get(get_well_known_url(server.url, external=True)).json()
    checked = OpenIDProviderMetadata(document)
    checked.validate()
    return dict(checked)


def test_authlib__code_with_pkce_api_refresh_and_revocation(
    authlib: Callable[..., OAuth2Client], person: Person, server: Server
) -> None:
    provider = metadata(server)
    client = authlib(
        "web",
        token_endpoint_auth_method="none",
        redirect_uri=CALLBACK,
        scope="openid email users:read",
        code_challenge_method="S256",
    )
    verifier = "v" * 64
    address, state = client.create_authorization_url(
        provider["authorization_endpoint"], code_verifier=verifier, nonce="n"
    )

    back = person.let_in(address)
    assert parse_qs(urlsplit(back).query)["iss"] == [server.url]
    token = client.fetch_token(
        provider["token_endpoint"], authorization_response=back, state=state, code_verifier=verifier
    )

    jwks = KeySet.import_key_set(httpx2.get(provider["jwks_uri"]).json())
    identity = jwt.decode(token["id_token"], jwks, algorithms=provider["id_token_signing_alg_values_supported"]).claims
    assert (identity["iss"], identity["aud"], identity["nonce"]) == (server.url, "web", "n")
    assert client.get(provider["userinfo_endpoint"]).json()["email"] == "alice@example.com"
    assert client.get(f"{server.url}/api/v1/users").status_code == 200
    old = token["refresh_token"]
    fresh = client.refresh_token(provider["token_endpoint"])
    assert fresh["refresh_token"] != old
    assert client.get(f"{server.url}/api/v1/users/me").json()["email"] == "alice@example.com"
    revoked = client.revoke_token(provider["revocation_endpoint"], fresh["refresh_token"], "refresh_token")
    assert revoked.status_code == 200
    with pytest.raises(OAuthError, match="invalid_grant"):
        client.refresh_token(provider["token_endpoint"], fresh["refresh_token"])


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib__client_credentials_and_introspection(
    method: str, authlib: Callable[..., OAuth2Client], person: Person, server: Server
) -> None:
    provider = metadata(server)
    client = authlib("machine", SECRET, token_endpoint_auth_method=method)

    token = client.fetch_token(provider["token_endpoint"], grant_type="client_credentials", scope="users:read")

    told = client.introspect_token(provider["introspection_endpoint"], token["access_token"])
    assert told.json()["client_id"] == "machine"
    assert told.json()["active"] is True


def test_authlib__device(authlib: Callable[..., OAuth2Client], person: Person, server: Server) -> None:
    provider = metadata(server)
    client = authlib("tv", token_endpoint_auth_method="none")
    begin = {"client_id": "tv", "scope": "openid users:read"}
    device = httpx2.post(provider["device_authorization_endpoint"], data=begin).json()

    person.let_in(device["verification_uri_complete"])

    poll = {"grant_type": DEVICE_CODE, "device_code": device["device_code"]}
    assert client.fetch_token(provider["token_endpoint"], **poll)["scope"] == "openid users:read"
    assert client.get(f"{server.url}/api/v1/users").status_code == 200
    with pytest.raises(OAuthError, match="invalid_grant"):
        client.fetch_token(provider["token_endpoint"], **poll)


@pytest.fixture(scope="module")
def openid_client() -> str:
    """Node.js with openid-client beside it."""
    installed(NODE)
    return shutil.which("node") or ""


def test_openid_client__every_flow(openid_client: str, person: Person, server: Server) -> None:
    with subprocess.Popen(
        [openid_client, "interop.mjs", server.url],
        cwd=NODE,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said: dict[str, Any] = {}
        for line in process.stdout:
            said = json.loads(line)
            if address := said.get("authorize") or said.get("device"):
                process.stdin.write(json.dumps({"back": person.let_in(address)}) + "\n")
                process.stdin.flush()
        _out, errors = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 0, errors
    assert said == {"done": True}


def test_oidc_client_ts__signed_in_elsewhere__renews_silently(
    openid_client: str, person: Person, server: Server
) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        absent("no Chromium")

    done = subprocess.run(
        [openid_client, "silent_renew.mjs", server.url, str(chromium)],
        cwd=NODE,
        capture_output=True,
        text=True,
        timeout=6 * PATIENCE_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr + server.log
    first, *renewed = json.loads(done.stdout)
    assert first["amr"] == ["pwd"]
    assert [user["auth_time"] for user in renewed] == [first["auth_time"]] * 2
    assert [user["sub"] for user in renewed] == [first["sub"]] * 2
    last_login = User.objects.get().last_login
    assert last_login is not None
    assert last_login.timestamp() >= first["auth_time"] + 1, "she did sign in elsewhere"
