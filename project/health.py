"""Liveness and readiness, for load balancers and orchestrators."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Set

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse

logger = logging.getLogger(__name__)

Check = Callable[[Request], Awaitable[None]]
"""Returns when all is well, raises when it is not."""

CHECK_TIMEOUT_S = 3.0
"""Below the usual probe's patience, so that the answer names the slow check instead of never coming."""


async def alive(_request: Request) -> PlainTextResponse:
    """200 as long as the process answers at all; it touches nothing else, so a dead database restarts no process."""
    return PlainTextResponse("ok", headers={"cache-control": "no-store"})


def readiness(
    *, can_do_without: Set[str] = frozenset(), **checks: Check
) -> Callable[[Request], Awaitable[JSONResponse]]:
    """An endpoint that runs ``checks`` side by side: 200 when all pass, 503 naming each that does not.

    One that fails, and that the process ``can_do_without``, is named, too, and leaves it in service.
    """

    async def ready(request: Request) -> JSONResponse:
        outcomes = await asyncio.gather(*(_run(name, check, request) for name, check in checks.items()))
        outcome_of = dict(zip(checks, outcomes, strict=True))
        failing = {name for name, outcome in outcome_of.items() if outcome != "ok"}
        status = "unavailable" if failing - can_do_without else "degraded" if failing else "ready"
        return JSONResponse(
            {"status": status, "checks": outcome_of},
            status_code=503 if status == "unavailable" else 200,
            headers={"cache-control": "no-store"},
        )

    return ready


async def _run(name: str, check: Check, request: Request) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await check(request)
    except TimeoutError:
        logger.warning("not ready: %s: no answer within %g s", name, CHECK_TIMEOUT_S)
        return "timed out"
    except Exception as error:
        # The log has the reason; the answer, which anyone may read, does not.
        logger.warning("not ready: %s: %s", name, error)
        return "failed"
    return "ok"
