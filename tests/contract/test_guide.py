"""docs/api.md: its examples run, one after the other, and answer what it says."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from project.accounts.models import User
from tests.asgi.server import ROOT, Server
from tests.fixtures import IssueToken, absent

CURL_PRINTS_HEADERS = """
set -eu
curl() { command curl --silent --show-error --output /dev/null --dump-header - "$@"; }
"""


def test_examples_of_the_guide__answer_what_it_says(
    product: Server, alice: User, issue_token: IssueToken, tmp_path: Path
) -> None:
    if not (shutil.which("curl") and shutil.which("bash")):
        absent("no bash and curl, which the examples are written for")
    guide = (ROOT / "docs" / "api.md").read_text()
    examples = "\n".join(re.findall(r"^```sh\n(.*?)^```", guide, re.MULTILINE | re.DOTALL))
    promised = re.findall(r"^curl.*?# (\d{3})(?:, see ([\w-]+))?", examples, re.MULTILINE | re.DOTALL)
    assert len(promised) == len(re.findall(r"^curl", examples, re.MULTILINE)) > 20, "each says what it answers"

    env = {
        "API": f"{product.url}/api/v1",
        "TOKEN": issue_token(alice, "users:read", "users:write"),
        "ME": str(alice.pk),
    }
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", CURL_PRINTS_HEADERS + examples],
        cwd=tmp_path,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stderr == ""
    answers = re.findall(r"^HTTP/1.1 (\d{3})(.*?)^$", done.stdout.replace("\r", ""), re.MULTILINE | re.DOTALL)
    assert [status for status, _headers in answers] == [status for status, _header in promised]
    for (_status, headers), (_promised, header) in zip(answers, promised, strict=True):
        assert f"\n{header.lower()}: " in headers or not header
