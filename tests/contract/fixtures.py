"""What the stories about the contract share: a server of the product itself, its document, the tools of npm."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from fastapi_app.app import VERSIONS, create_api
from fastapi_app.core.docs import openapi_document
from tests.asgi.server import Server, serving
from tests.fixtures import absent

NODE = Path(__file__).parent / "node"
INSTALL_PATIENCE_S = 300


@pytest.fixture(scope="module")
def product(migrated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The product as it is, in a process of its own."""
    with serving(tmp_path_factory.mktemp("product") / "log", env={}) as server:
        yield server


@pytest.fixture
def document_file(tmp_path: Path) -> Path:
    """The newest version's OpenAPI document, which needs no server."""
    file = tmp_path / "openapi.json"
    newest = VERSIONS[-1]
    file.write_text(json.dumps(openapi_document(create_api(), newest, server=f"/api/{newest.name}")))
    return file


@pytest.fixture(scope="session")
def node_tools() -> Path:
    """The folder of the tools that tests/contract/node/package.json names, which are installed once."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        absent("no node and npm, which Spectral and TypeScript need")
    installed = NODE / "node_modules" / ".installed"
    lock = (NODE / "package-lock.json").read_text()
    with FileLock(NODE / ".install.lock"):
        if not installed.exists() or installed.read_text() != lock:
            install = subprocess.run(
                [npm or "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=NODE,
                capture_output=True,
                text=True,
                timeout=INSTALL_PATIENCE_S,
                check=False,
            )
            if install.returncode:
                absent(f"npm ci failed: {install.stderr.strip()[-300:]}")
            installed.write_text(lock)
    return NODE / "node_modules" / ".bin"
