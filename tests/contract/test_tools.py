"""The document in the hands of the tools that client teams use: each takes it, and what it makes works."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from project.accounts.models import User
from tests.asgi.server import ROOT, Server
from tests.fixtures import IssueToken, give

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


READS = {"GET /users", "GET /users/me", "GET /users/{user_id}", "GET /users/export"}
WRITES = {"POST /users", "POST /users/import", "PATCH /users/{user_id}", "DELETE /users/{user_id}"}


@pytest.fixture
def staff(database: str) -> User:
    return User.objects.create_superuser("staff@example.com", None)


@pytest.fixture
def staff_token(staff: User, issue_token: IssueToken) -> str:
    return issue_token(staff, "users:read", "users:write", ttl_s=3600)


def judge(product: Server, token: str, caller: User, folder: Path) -> dict[str, Any]:
    """The report of Schemathesis with all its checks; the seed makes a failure one that comes again."""
    report = folder / "report.json"
    run(
        SCRIPTS / "schemathesis", f"--config-file={FOLDER / 'schemathesis.toml'}", "--no-color", "run",
        f"{product.url}/api/v1/openapi.json", f"--header=Authorization: Bearer {token}", "--seed=1",
        "--max-examples=15", "--generation-database=none", "--report=json", f"--report-json-path={report}",
        cwd=folder, SCHEMATHESIS_HOOKS="tests.contract.schemathesis_hooks", PYTHONPATH=str(ROOT),
        CALLER_ID=str(caller.pk),
    )  # fmt: skip
    assert "Traceback" not in product.log
    found: dict[str, Any] = json.loads(report.read_text())
    assert found["complete"]
    assert found["operations"]["tested"] == found["operations"]["total"]
    return found


def warnings(report: dict[str, Any]) -> dict[str, set[str]]:
    """The operations that each warning names."""
    return {kind: set(named) for kind, named in report["warnings"].items() if named}


def accepted(report: dict[str, Any]) -> set[str]:
    """The operations of which some request succeeded."""
    return {
        operation
        for operation, phases in report["valid_rates"].items()
        if any(phase["accepted"] for phase in phases.values())
    }


@pytest.mark.postgresql
def test_schemathesis__as_a_normal_user__finds_nothing(
    product: Server, bob: User, issue_token: IssueToken, tmp_path: Path
) -> None:
    give(bob, "view_user")

    report = judge(product, issue_token(bob, "users:read", ttl_s=3600), bob, tmp_path)

    assert warnings(report) == {"missing_auth": WRITES}, "what they may not do, and nothing else, is always 403"
    assert accepted(report) == READS


@pytest.mark.postgresql
def test_schemathesis__as_staff__finds_nothing(
    product: Server, staff: User, staff_token: str, bob: User, tmp_path: Path
) -> None:
    report = judge(product, staff_token, staff, tmp_path)

    assert warnings(report) == {"validation_mismatch": {"POST /users/import"}}, "a file is more than any text"
    assert accepted(report) == READS | WRITES


@pytest.mark.postgresql
def test_python_client__generated__type_checks_and_drives_the_api(
    product: Server, staff_token: str, tmp_path: Path
) -> None:
    document = tmp_path / "openapi.json"
    document.write_bytes(httpx2.get(f"{product.url}/api/v1/openapi.json").content)
    client = tmp_path / "client"
    generated = run(
        SCRIPTS / "openapi-python-client", "generate", "--fail-on-warning", "--config",
        FOLDER / "openapi-python-client.yaml", "--path", document, "--output-path", client,
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
        "stale": 412,
        "status": 204,
        "problem": "http://127.0.0.1:8000/api/problems/email-taken",
    }


def test_spectral__every_rule__has_nothing_to_say(document_file: Path, node_tools: Path) -> None:
    ruleset = FOLDER / "node" / "spectral.yaml"

    report = run(node_tools / "spectral", "lint", document_file, "--ruleset", ruleset, "--fail-severity=hint")

    assert report.strip() == "No results with a severity of 'hint' or higher found!"
