"""Django's database over the life of the process: brought up to date or checked, then closed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from pkgutil import iter_modules

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from starlette.requests import Request

from project.config import Config, StartupError


@asynccontextmanager
async def django_database(config: Config) -> AsyncIterator[None]:
    """Make the database fit for serving, and close Django's connections at the end.

    In development pending migrations are applied and an administrator is made; in production nothing is changed.

    Raises:
        StartupError: in production, migrations are pending, triggers are missing, or the static files have not been
            collected.
    """
    try:
        prepare = _check if config.is_production else _bring_up_to_date
        await asyncio.to_thread(_in_own_connection, partial(prepare, config))
        yield
    finally:
        await asyncio.to_thread(close_pools)


async def triggers_are_installed(_request: Request) -> None:
    """Readiness: the database ends the tokens of a user or client that changes.

    Raises:
        RuntimeError: triggers are missing; the message names their tables.
    """
    if tables := await sync_to_async(_in_own_connection)(_tables_without_triggers):
        raise RuntimeError(_untriggered(tables))


async def migrations_are_applied(_request: Request) -> None:
    """Readiness: every migration of the code is in the database.

    Raises:
        RuntimeError: some are pending; the message names them.
    """
    if pending := await sync_to_async(_in_own_connection)(pending_migrations):
        raise RuntimeError(f"pending: {', '.join(pending)}")


def pending_migrations() -> list[str]:
    """The migrations that the database lacks, as ``app.name``, in the order in which they would run."""
    if _migrations_of_the_code() <= MigrationRecorder(connection).applied_migrations().keys():
        return []  # As nearly always, and then none needs to be imported, nor their order be found.
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan]


def _migrations_of_the_code() -> set[tuple[str, str]]:
    """The app and the name of every file that Django would take for a migration."""
    packages = {app.label: MigrationLoader.migrations_module(app.label)[0] for app in apps.get_app_configs()}
    return {
        (label, name)
        for label, package in packages.items()
        if package and (found := find_spec(package))
        for _finder, name, is_package in iter_modules(found.submodule_search_locations or [])
        if not is_package and name[0] not in "_~"
    }


def _in_own_connection[T](work: Callable[[], T]) -> T:
    try:
        return work()
    finally:
        connections.close_all()  # The thread lives on, in the loop's pool or for its request; its connection must not.


def _bring_up_to_date(config: Config) -> None:
    from project.development import bring_up_to_date  # noqa: PLC0415  Production does without what it imports.

    bring_up_to_date(config)


def _check(_config: Config) -> None:
    if pending := pending_migrations():
        raise StartupError(
            f"{len(pending)} migrations are pending, first {pending[0]}: run 'python manage.py migrate' before starting"
        )
    if tables := _tables_without_triggers():
        raise StartupError(_untriggered(tables))
    if not (settings.STATIC_ROOT / "staticfiles.json").exists():
        raise StartupError("the static files are missing: run 'python manage.py collectstatic --no-input'")


def _tables_without_triggers() -> list[str]:
    from project.identity.triggers import missing  # noqa: PLC0415  Models are not ready when this file is imported.

    return missing()


def _untriggered(tables: list[str]) -> str:
    return f"triggers that end tokens are missing on {', '.join(tables)}: run 'python manage.py migrate'"


def close_pools() -> None:
    """Close Django's pools, and this thread's connections with them."""
    for wrapper in connections.all():
        wrapper.close()
        if close_pool := getattr(wrapper, "close_pool", None):
            close_pool()
