"""The API: routers, errors, documentation. It has no lifespan of its own; a mounted app's never runs."""

from http import HTTPStatus

from fastapi import FastAPI

from fastapi_app.core.docs import DocumentedAPI, add_docs
from fastapi_app.core.errors import HANDLERS
from fastapi_app.core.problems import responses
from fastapi_app.core.routing import include
from fastapi_app.users.routes import router as users


def create_api() -> FastAPI:
    """A FastAPI app to be mounted where a lifespan provides ``State``."""
    api = DocumentedAPI(
        title="Tandem",
        telemetry={"tracing": False, "metrics": False, "logs": False},
        version="1",
        docs_url=None,
        redoc_url=None,
        exception_handlers=HANDLERS,
        responses=responses(
            HTTPStatus.UNAUTHORIZED,
            HTTPStatus.FORBIDDEN,
            HTTPStatus.UNPROCESSABLE_CONTENT,
            HTTPStatus.TOO_MANY_REQUESTS,
            HTTPStatus.INTERNAL_SERVER_ERROR,
        ),
    )
    include(api, users, "/v1")
    add_docs(api)
    return api
