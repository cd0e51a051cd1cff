"""The composition root: ``uvicorn asgi:app --lifespan on`` serves Django and FastAPI as one app, on one lifespan.

root Starlette      the lifespan opens Resources once, and closes them once, in reverse
  middleware        errors -> lost body? -> request id -> problems -> head limits -> hosts -> lifespan? -> body limit
                    -> deadline -> /api? -> Django's thread
  /api              FastAPI: routes -> service -> repository
  /healthz /readyz  answered here
  /                 Django: /admin, accounts, static files; last, because it takes whatever is left
"""

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from django.core.asgi import get_asgi_application
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

gc.disable()  # What is imported stays: to search it for garbage, again and again, took a fifth of the start.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django = get_asgi_application()  # Fills the app registry: what is imported below may use models.

from fastapi_app.app import VERSIONS, create_api  # noqa: E402
from fastapi_app.core.database import database_answers  # noqa: E402
from fastapi_app.core.edge import Compression, cross_origin, security_headers  # noqa: E402
from fastapi_app.core.errors import root_server_error  # noqa: E402
from fastapi_app.core.problems import ProblemResponses  # noqa: E402
from fastapi_app.core.rate_limits import limits_are_counted, rate_limited  # noqa: E402
from fastapi_app.core.requests import State  # noqa: E402
from fastapi_app.core.resources import ResourceStack, open_resources  # noqa: E402
from fastapi_app.core.revocation import revocations_are_fresh  # noqa: E402
from project.config import config  # noqa: E402
from project.database import django_database, migrations_are_applied, triggers_are_installed  # noqa: E402
from project.deadline import CancelOnDisconnect, Deadline  # noqa: E402
from project.health import alive, readiness  # noqa: E402
from project.middleware import BodyLimit, HeadLimits, RequestId, RequireLifespan, TrustedHosts  # noqa: E402
from project.mounts import MountBeforeRouter, mount  # noqa: E402
from project.server_errors import RootApp  # noqa: E402
from project.threads import DjangoLanes, DjangoThread  # noqa: E402
from project.tuning import tune_interpreter  # noqa: E402
from project.upgrade import RefuseLostBody  # noqa: E402

api = create_api()


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[State]:
    """Open what the process holds, serve, close it in reverse."""
    async with ResourceStack(
        startup_timeout_s=config.startup_timeout_s, shutdown_timeout_s=config.shutdown_timeout_s
    ) as stack:
        await stack.open("Django's database", django_database(config))
        resources = await open_resources(stack, config, issuer=DjangoThread(in_lanes))
        tune_interpreter()
        yield State(resources=resources)


async def serve_django(scope: Scope, receive: Receive, send: Send) -> None:
    """Hand HTTP to Django, whose handler raises on anything else; a websocket is refused."""
    app: ASGIApp = WebSocketClose() if scope["type"] == "websocket" else cast("ASGIApp", django)
    await app(scope, receive, send)


in_lanes = DjangoLanes(serve_django, config)


async def redirect_to_api(request: Request) -> RedirectResponse:
    """``/api`` would fall through to Django; ``/api/`` is the API's."""
    return RedirectResponse(request.url.replace(path=f"{request.url.path}/"))


app = RootApp(
    lifespan=lifespan,
    middleware=[
        Middleware(RefuseLostBody),  # Outermost: every answer to such a request must close its connection.
        Middleware(RequestId),
        # What a browser app calls by itself. It sends people to the issuer's pages; /.well-known is open to everybody.
        *cross_origin(config, "/api", "/o/token", "/o/revoke", "/o/userinfo", "/o/register"),
        Middleware(ProblemResponses, prefix="/api", headers=security_headers(config)),
        Middleware(HeadLimits),
        Middleware(TrustedHosts, config.trusted_hosts),
        Middleware(RequireLifespan),
        Middleware(
            BodyLimit,
            config.max_body_bytes,
            {f"/api/{version.name}/users/import": config.max_import_bytes for version in VERSIONS},
        ),
        Middleware(Deadline, seconds=config.request_timeout_s),
        Middleware(
            MountBeforeRouter,
            "/api",
            api,
            [*rate_limited(config), Middleware(Compression), Middleware(CancelOnDisconnect)],
        ),
        Middleware(DjangoThread),
    ],
    exception_handlers={Exception: root_server_error},
    routes=[
        Route("/api", redirect_to_api),
        Route("/healthz", alive),
        Route(
            "/readyz",
            readiness(
                database=database_answers,
                migrations=migrations_are_applied,
                triggers=triggers_are_installed,
                revocations=revocations_are_fresh,
                **({"rate_limits": limits_are_counted} if config.redis_url else {}),
                can_do_without={"rate_limits"},
            ),
        ),
        mount("/", in_lanes),
    ],
)
gc.freeze()  # Nor is it searched from here on.
gc.enable()
