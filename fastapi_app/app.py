"""The API: its versions, errors, documentation. It has no lifespan of its own; a mounted app's never runs."""

from collections.abc import Sequence

from fastapi import FastAPI
from fastapi.routing import APIRoute

from fastapi_app.core.deprecation import DeprecationHeaders
from fastapi_app.core.dispatch import DirectApi
from fastapi_app.core.docs import add_docs
from fastapi_app.core.errors import HANDLERS
from fastapi_app.core.problem_pages import add_problem_pages
from fastapi_app.core.routing import ContractRoute
from fastapi_app.core.versions import Version, add_version
from fastapi_app.users.routes import router as users

TAGS = [{"name": "users", "description": "People with an account."}]
"""Every tag that a router has, with what the documentation says about it."""

VERSIONS = (Version("v1", [users]),)
"""What is served, the newest last. docs/versions.md says how to add one, and how one ends."""


def create_api(versions: Sequence[Version] = VERSIONS) -> FastAPI:
    """A FastAPI app to be mounted where a lifespan provides ``State``."""
    api = DirectApi(
        title="Tandem",
        telemetry={"tracing": False, "metrics": False, "logs": False},
        openapi_url=None,  # Each version has its own.
        openapi_tags=TAGS,
        exception_handlers=HANDLERS,
        generate_unique_id_function=_operation_id,
    )
    for version in versions:
        add_version(api, version)
    if any(route.deprecation_headers for route in api.routes if isinstance(route, ContractRoute)):
        api.add_middleware(DeprecationHeaders)
    add_docs(api, versions)
    add_problem_pages(api)
    return api


def _operation_id(route: APIRoute) -> str:
    """What generated clients call a route: the name of its function, unique within a version."""
    return route.name
