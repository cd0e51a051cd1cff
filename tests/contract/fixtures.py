"""What the stories about the contract share: a server of the product itself, its document, the tools of npm."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastapi_app.app import VERSIONS, create_api
from fastapi_app.core.docs import openapi_document
from tests.asgi.server import Server, serving
from tests.npm import installed

NODE = Path(__file__).parent / "node"


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
    """The folder of the tools that tests/contract/node/package.json names."""
    return installed(NODE) / "node_modules" / ".bin"
