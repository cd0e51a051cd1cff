"""The product's API without its root and its mount: what the one process adds to a request is the difference.

Runs in the product's own environment. It opens what the root's lifespan opens for the API; of Django there is only
what publishes the keys that tokens are verified with.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from django.core.asgi import get_asgi_application
from starlette.requests import Request
from starlette.responses import PlainTextResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django = get_asgi_application()

from fastapi_app.app import create_api  # noqa: E402
from fastapi_app.core.requests import State  # noqa: E402
from fastapi_app.core.resources import ResourceStack, open_resources  # noqa: E402
from project.config import config  # noqa: E402
from project.threads import DjangoThread  # noqa: E402
from project.tuning import tune_interpreter  # noqa: E402


@asynccontextmanager
async def lifespan(_app: object) -> AsyncIterator[State]:
    """The API's share of the root's lifespan."""
    async with ResourceStack(
        startup_timeout_s=config.startup_timeout_s, shutdown_timeout_s=config.shutdown_timeout_s
    ) as stack:
        resources = await open_resources(stack, config, issuer=DjangoThread(django))
        tune_interpreter()
        yield State(resources=resources)


async def ping(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


app = create_api()
app.router.lifespan_context = lifespan
app.add_route("/ping", ping)
