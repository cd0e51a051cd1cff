"""HTTP clients that offer h2c on every request to an http:// address: their bodies arrive."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from project.accounts.models import User
from project.config import config
from tests.asgi.server import PATIENCE_S, Server, serving
from tests.fixtures import IssueToken, absent, give
from tests.identity.flows import SECRET, machine_client

NEW_USER = '{"email": "ada@example.com", "display_name": "Ada"}'
JAVA = """
import java.net.URI;
import java.net.http.*;

public class Post {
    public static void main(String[] arguments) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(arguments[0]))
            .header("Authorization", "Bearer " + arguments[1]).header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(arguments[2])).build();
        var client = HttpClient.newHttpClient();
        for (int number = 0; number < 2; number++)
            System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode());
    }
}
"""


@pytest.fixture(scope="module")
def server(migrated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("clients") / "log", env={"DATABASE_URL": config.database}) as running:
        yield running


@pytest.fixture
def token(alice: User, issue_token: IssueToken) -> str:
    give(alice, "view_user", "add_user", "change_user")
    return issue_token(alice, "users:read", "users:write")


def curl(*arguments: str) -> str:
    """The status of a request by ``curl --http2``, which offers h2c."""
    if shutil.which("curl") is None:
        absent("no curl")
    command = ["curl", "--http2", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout


def test_curl__offers_h2c__gets_a_token(server: Server, database: str) -> None:
    machine_client()

    status = curl("-u", f"machine:{SECRET}", "-d", "grant_type=client_credentials", f"{server.url}/o/token/")

    assert status == "200"


def test_curl__offers_h2c__creates_a_user(server: Server, token: str) -> None:
    headers = ("-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json")

    status = curl(*headers, "-d", NEW_USER, f"{server.url}/api/v1/users")

    assert status == "201"
    assert User.objects.filter(email="ada@example.com").exists()


def test_java__offers_h2c__creates_a_user(server: Server, token: str, tmp_path: Path) -> None:
    """And its next request, which is on the same connection, is answered too."""
    java = shutil.which("java")
    if java is None:
        pytest.skip("no Java")
    source = tmp_path / "Post.java"
    source.write_text(JAVA)

    done = subprocess.run(
        [java, source, f"{server.url}/api/v1/users", token, NEW_USER],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )

    assert done.stdout.split() == ["201", "409"], done.stderr
