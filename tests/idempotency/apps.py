"""The product's app, in a process that dies by ``kill -9`` where ``DIE`` says: ``before the commit`` or after it."""

import os
import signal

from starlette.responses import Response

import asgi
from fastapi_app.core import idempotency

app = asgi.app


def die() -> None:
    print("dying", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


_keep = idempotency._Attempt.keep


async def keep_and_die(self: idempotency._Attempt, response: Response) -> None:
    await _keep(self, response)
    die()


async def keep_without_commit(self: idempotency._Attempt, response: Response) -> None:
    assert self._transaction is not None
    self._transaction.commit = die_instead  # type: ignore[method-assign]
    await _keep(self, response)


async def die_instead() -> None:
    die()


match os.environ.get("DIE"):
    case "before the commit":
        idempotency._Attempt.keep = keep_without_commit  # type: ignore[method-assign]
    case "after the commit":
        idempotency._Attempt.keep = keep_and_die  # type: ignore[method-assign]
