"""Including a domain's routes so that a request finds them directly."""

from inspect import signature

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from fastapi_app.core.direct import DirectRoute

_OPTIONS = signature(APIRouter.add_api_route).parameters.keys() & signature(APIRoute).parameters.keys() - {
    "path",
    "endpoint",
}
"""What a route was declared with, by the names under which it keeps it."""


def include(api: FastAPI, router: APIRouter, prefix: str) -> None:
    """Add the routes of ``router`` to ``api`` itself, below ``prefix``, as they were declared.

    ``include_router`` leaves them in their router, and matches a request there once more: a tenth of what FastAPI does
    for a request. What belongs to the router alone (its lifespan, its dependencies) must be on the routes or the app.
    """
    for route in router.routes:
        assert isinstance(route, APIRoute)  # noqa: S101  What a domain's router is made of.
        options = {name: getattr(route, name) for name in _OPTIONS}
        route_class = type(route) if isinstance(route, DirectRoute) else DirectRoute
        api.router.add_api_route(f"{prefix}{route.path}", route.endpoint, **options, route_class_override=route_class)
