"""The commands of docs/api-pages-and-retries.md, run as a reader would: by a shell, with curl, against a server."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from project.accounts.models import User
from tests.asgi.server import ROOT, Server, serving
from tests.fixtures import IssueToken

PAGE = ROOT / "docs" / "api-pages-and-retries.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)

TOLD = (
    r'\{"items":\[\{"id":\d+,.*\},\{"id":\d+,.*\}\],"next_cursor":"[\w-]+"\}',
    r'\{"items":\[\{.*"email":"ada@example.com".*\}\],"next_cursor":null\}',
    r'304\n\{.*"display_name":"A. Lovelace".*\}412\n',
    r'\{.*"grace@example.com".*\}HTTP/1.1 201 .*idempotency-replayed: true.*\{.*"grace@example.com".*\}',
    r"HTTP/1.1 200 .*ratelimit: .*",
    r'\{"created":2\}\{.*"status": ?422.*"line": ?2.*\}id,email,.*,alan@example.com,Alan,.*\{"id":.*"alan@example.com"',
)
"""What each block prints, in their order."""


@pytest.fixture
def server(database: str, tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "log", env={"DATABASE_URL": database}) as running:
        yield running


def test_commands__in_their_order__do_what_the_page_says(
    server: Server, alice: User, bob: User, issue_token: IssueToken
) -> None:
    User.objects.create_user("ada@example.com", display_name="Ada")
    environment = {
        "PATH": os.environ["PATH"],
        "API": f"{server.url}/api/v1",
        "TOKEN": issue_token(alice, "users:read", "users:write"),
    }

    for block, told in zip(BLOCKS, TOLD, strict=True):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],  # noqa: S607  Where bash is differs.
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        assert re.fullmatch(rf"{told}.*", done.stdout.replace("\r", ""), re.DOTALL), f"{block}\n{done.stdout}"
