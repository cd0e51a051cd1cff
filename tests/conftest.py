"""The tests' world: a database of their own, the app on its lifespan, a client with a token.

``pytest`` runs on SQLite; ``pytest --database postgresql`` runs what uses a database again on PostgreSQL, on the
server that ``TEST_DATABASE_URL`` names or else on one that a wheel brings along.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.postgresql import SERVER_FAULT, SERVER_URL, database_on, start_postgresql

STOP_SERVER = pytest.StashKey[Callable[[], None]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database", choices=["sqlite", "postgresql"], default="sqlite", help="where the tests' data lives"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before anything of the project is imported: it reads it once."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    var_dir = Path(tempfile.mkdtemp(prefix=f"tandem-{worker}-"))
    os.environ.update(
        ENVIRONMENT="development",
        VAR_DIR=str(var_dir),
        DATABASE_URL=f"sqlite:///{var_dir}/test.sqlite3",
        ALLOWED_HOSTS="127.0.0.1,testserver",
        BASE_URL="http://127.0.0.1:8000",
        DJANGO_NICENESS="4",  # Tests and their servers share the cores, and keep them busy.
        LOG_LEVEL="INFO",
        DJANGO_SETTINGS_MODULE="tests.settings",
    )
    if config.getoption("--database") == "postgresql":
        try:
            if worker == "main" and SERVER_URL not in os.environ:
                os.environ[SERVER_URL], config.stash[STOP_SERVER] = start_postgresql()
            os.environ["DATABASE_URL"] = database_on(os.environ[SERVER_URL], f"tandem_test_{worker}")
        except (OSError, psycopg.Error, KeyError) as error:
            config.stash[SERVER_FAULT] = f"no PostgreSQL: {error}"
    import django  # noqa: PLC0415  It reads the environment set above.

    django.setup()
    config.pluginmanager.import_plugin("tests.fixtures")
    config.pluginmanager.import_plugin("tests.identity.fixtures")
    config.pluginmanager.import_plugin("tests.contract.fixtures")
    config.pluginmanager.import_plugin("tests.schema.fixtures")


def pytest_unconfigure(config: pytest.Config) -> None:
    if stop := config.stash.get(STOP_SERVER, None):
        stop()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run what touches a database on each, but for the other's own stories; run the rest on SQLite only."""
    on_postgresql = config.getoption("--database") == "postgresql"
    others_own = "sqlite" if on_postgresql else "postgresql"
    chosen = [
        item
        for item in items
        if item.get_closest_marker(others_own) is None
        and (not on_postgresql or "migrated" in getattr(item, "fixturenames", ()))
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
