"""Servers that the stories here share: one process a worker, because starting one takes seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.asgi.server import Server, serving


@pytest.fixture(scope="module")
def server(migrated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The product with the tests' misbehaving routes (tests/asgi/apps.py), small pools and a short deadline."""
    log: Path = tmp_path_factory.mktemp("server") / "log"
    with serving(
        log,
        app="tests.asgi.apps:app",
        env={"REQUEST_TIMEOUT_S": "3", "DJANGO_POOL_SIZE": "3", "API_POOL_SIZE": "2", "DATABASE_WAIT_S": "5"},
    ) as running:
        yield running
