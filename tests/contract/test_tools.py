"""The document in the hands of the tools that client teams use: each takes it, and what it makes works."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from project.accounts.models import User
from tests.asgi.server import ROOT, Server
from tests.fixtures import IssueToken

FOLDER = Path(__file__).parent
SCRIPTS = Path(sys.executable).parent
PATIENCE_S = 120


def run(*command: str | Path, cwd: Path = ROOT, **env: str) -> str:
    """What a command that must succeed prints."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def staff_token(alice: User, issue_token: IssueToken) -> str:
    alice.is_staff = alice.is_superuser = True
    alice.save()
    return issue_token(alice, "users:read", "users:write", ttl_s=3600)


def judge(product: Server, token: str, folder: Path) -> str:
    """Schemathesis with all its checks, as it does by itself; the seed makes a failure one that comes again."""
    report = run(
        SCRIPTS / "schemathesis", f"--config-file={FOLDER / 'schemathesis.toml'}", "--no-color", "run",
        f"{product.url}/api/v1/openapi.json", f"--header=Authorization: Bearer {token}", "--seed=1",
        "--max-examples=15", "--generation-database=none", "--warnings=off",
        cwd=folder, SCHEMATHESIS_HOOKS="tests.contract.schemathesis_hooks", PYTHONPATH=str(ROOT),
    )  # fmt: skip
    assert "Traceback" not in product.log
    return report


@pytest.mark.postgresql
def test_schemathesis__as_a_normal_user__finds_nothing(
    product: Server, bob: User, issue_token: IssueToken, tmp_path: Path
) -> None:
    report = judge(product, issue_token(bob, ttl_s=3600), tmp_path)

    assert " passed" in report


@pytest.mark.postgresql
def test_schemathesis__as_staff__finds_nothing(product: Server, staff_token: str, bob: User, tmp_path: Path) -> None:
    report = judge(product, staff_token, tmp_path)

    assert " passed" in report
    assert User.objects.count() > 3, "it created users, so its requests were taken"


@pytest.mark.postgresql
def test_python_client__generated__type_checks_and_drives_the_api(
    product: Server, staff_token: str, tmp_path: Path
) -> None:
    document = tmp_path / "openapi.json"
    document.write_bytes(httpx2.get(f"{product.url}/api/v1/openapi.json").content)
    client = tmp_path / "client"
    generated = run(
        SCRIPTS / "openapi-python-client", "generate", "--fail-on-warning", "--path", document, "--output-path", client,
        PATH=f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
    )  # fmt: skip
    assert "Warning" not in generated

    driver = shutil.copy(FOLDER / "drive.py", tmp_path)
    run(SCRIPTS / "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path / "cache", driver, MYPYPATH=str(client))
    output = run(sys.executable, driver, f"{product.url}/api/v1", staff_token, PYTHONPATH=str(client))

    assert output.startswith("driven")


@pytest.mark.postgresql
def test_typescript_types__generated__compile_and_drive_the_api(
    product: Server, staff_token: str, node_tools: Path, tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(node_tools.parent)
    for name in ("package.json", "drive.ts"):
        shutil.copy(FOLDER / "node" / name, tmp_path)
    run(node_tools / "openapi-typescript", f"{product.url}/api/v1/openapi.json", "-o", "schema.d.ts", cwd=tmp_path)
    run(
        node_tools / "tsc", "--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler",
        "--lib", "es2022,dom", "drive.ts",
        cwd=tmp_path,
    )  # fmt: skip

    output = json.loads(run("node", "drive.js", f"{product.url}/api/v1", staff_token, cwd=tmp_path))

    assert output == {
        "found": "typed@example.com",
        "listed": True,
        "changed": "Changed",
        "status": 204,
        "problem": "http://127.0.0.1:8000/api/problems/email-taken",
    }


def test_spectral__every_rule__has_nothing_to_say(document_file: Path, node_tools: Path) -> None:
    ruleset = FOLDER / "node" / "spectral.yaml"

    report = run(node_tools / "spectral", "lint", document_file, "--ruleset", ruleset, "--fail-severity=hint")

    assert report.strip() == "No results with a severity of 'hint' or higher found!"
