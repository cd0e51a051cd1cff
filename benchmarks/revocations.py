"""``DATABASE_URL=... python -m benchmarks.revocations``: what a million revocation events cost a process.

It migrates an empty database, writes the events there twice, and measures the start, polls and a look-up: the time, the
longest processor time of one step of the event loop, and the memory that it kept or needed at most.
"""

import asyncio
import gc
import os
import sys
import time
import tracemalloc
from asyncio import Handle
from collections.abc import Awaitable

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, connections  # noqa: E402

from fastapi_app.core.database import Database, open_database  # noqa: E402
from fastapi_app.core.revocation import Revocable, RevocationView  # noqa: E402
from project.config import config  # noqa: E402

EVENTS = 1_000_000
SOMEBODY = Revocable(user="7", user_version=1, family="family", client="web", client_version=1)


class LongestStep:
    """The processor time of the event loop's longest step since it was reset."""

    def __init__(self) -> None:
        self.seconds = 0.0
        run = Handle._run  # type: ignore[attr-defined]  # noqa: SLF001  There is no other place to measure it.

        def timed(handle: Handle) -> None:
            began = time.thread_time()
            run(handle)
            self.seconds = max(self.seconds, time.thread_time() - began)

        Handle._run = timed  # type: ignore[attr-defined]  # noqa: SLF001


async def measure(name: str, step: LongestStep, work: Awaitable[object]) -> None:
    """Print how long ``work`` takes, and the longest step of the event loop meanwhile."""
    step.seconds, began = 0.0, time.perf_counter()
    await work
    sys.stdout.write(
        f"{name}: {(time.perf_counter() - began) * 1e3:.1f} ms, longest step {step.seconds * 1e3:.1f} ms\n"
    )


def add_events() -> None:
    """Write a million events, as log-ins that were ended."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO identity_revocationevent (kind, subject) WITH RECURSIVE numbers(number) AS"
            " (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < %s)"
            " SELECT 'family', 'family-' || number FROM numbers",
            [EVENTS],
        )
    connections.close_all()


async def run(database: Database) -> None:
    """Measure on a database with a million events, to which a million more come."""
    step = LongestStep()
    gc.collect()
    gc.freeze()  # As the server does.
    view = RevocationView(database, remember_s=config.max_token_ttl_s)
    await measure("start", step, view.poll())
    await measure("poll without news", step, view.poll())
    for _ in range(2):
        await measure("look-up", step, view.look_up(SOMEBODY))
    await asyncio.to_thread(add_events)
    await measure("poll after a million more", step, view.poll())
    tracemalloc.start()
    view = RevocationView(database, remember_s=config.max_token_ttl_s)
    await view.poll()
    kept, peak = tracemalloc.get_traced_memory()
    sys.stdout.write(f"memory: {kept / 1e6:.1f} MB kept, {peak / 1e6:.1f} MB at most\n")


async def main() -> None:
    """Fill the database, and measure."""
    await asyncio.to_thread(call_command, "migrate", verbosity=0)
    await asyncio.to_thread(add_events)
    async with open_database(config) as database:
        await database.ping()
        await run(database)


if __name__ == "__main__":
    asyncio.run(main())
