"""Versions of the API: what each serves, and what a new one takes over from the one before.

A version is a list of routers. A newer one names those that it changes and inherits the rest::

    V2 = Version("v2", [changed_users], inherits=V1)

A route with the method and the path of an inherited one takes its place. All versions are served side by side.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from fastapi_app.core import problem_types
from fastapi_app.core.deprecation import Deprecation, deprecated
from fastapi_app.core.documentation import dependants, documentation_of
from fastapi_app.core.problem_types import ProblemType
from fastapi_app.core.problems import documented, merged
from fastapi_app.core.routing import add_route, media_types, method_not_allowed
from fastapi_app.core.security import Requires
from fastapi_app.core.streams import declares_stream


@dataclass(frozen=True, slots=True)
class Version:
    """What is served below ``/api/{name}``."""

    name: str
    routers: Sequence[APIRouter]
    inherits: "Version | None" = None
    deprecation: Deprecation | None = None

    @property
    def number(self) -> str:
        """What the document calls it: ``1`` for ``v1``."""
        return self.name.removeprefix("v")

    @property
    def routes(self) -> list[APIRoute]:
        """The new ones first, so that none is hidden by an inherited ``/{id}``; each changed one in its old place."""
        own = {
            _operation(route): route
            for router in self.routers
            for route in router.routes
            if isinstance(route, APIRoute)
        }
        inherited = [own.pop(_operation(route), route) for route in self.inherits.routes] if self.inherits else []
        return [*own.values(), *inherited]


def _operation(route: APIRoute) -> tuple[str, ...]:
    return (route.path, *sorted(route.methods or ()))


def add_version(api: FastAPI, version: Version) -> None:
    """Serve the routes of ``version``, each with the problems that any route can answer with in its document."""
    routes = version.routes
    for route in routes:
        found = documentation_of(route)
        extra = found.added_to(route.openapi_extra or {})
        if version.deprecation:
            extra |= deprecated(version.deprecation)
        add_route(
            api,
            f"/{version.name}{route.path}",
            route,
            responses=merged(merged(route.responses, found.responses), documented(*_problems_of_any(route, extra))),
            openapi_extra=extra or None,
        )
        _refuse_other_methods(api, f"/{version.name}", route, routes)


def _refuse_other_methods(api: FastAPI, prefix: str, route: APIRoute, routes: Sequence[APIRoute]) -> None:
    """Keep what ``/users/me`` has not from being answered by ``/users/{user_id}``."""
    if route.param_convertors:
        return
    own = {method for other in routes if other.path == route.path for method in other.methods or ()}
    hidden = {
        method
        for other in routes
        if other.param_convertors and other.path_regex.match(route.path)
        for method in other.methods or ()
    } - own

    async def refuse(_request: Request) -> Response:
        raise method_not_allowed(own)

    if hidden:
        api.add_route(f"{prefix}{route.path}", refuse, methods=sorted(hidden), include_in_schema=False)


def _problems_of_any(route: APIRoute, extra: Mapping[str, Any]) -> Iterator[ProblemType]:
    """The problems that any route of this making can answer with, whatever its domain."""
    yield problem_types.BAD_REQUEST
    if scopes_of(route) is not None:
        yield from (problem_types.UNAUTHENTICATED, problem_types.FORBIDDEN)
    if media_types(route):
        yield problem_types.NOT_ACCEPTABLE
    if has_body := route.body_field is not None or "requestBody" in extra:
        yield from (problem_types.CONTENT_TOO_LARGE, problem_types.UNSUPPORTED_MEDIA_TYPE)
    if has_body or extra.get("parameters") or any(_parameters(dependant) for dependant in dependants(route.dependant)):
        yield problem_types.INVALID_REQUEST
    if declares_stream(route):
        yield problem_types.TOO_MANY_STREAMS
    yield from problem_types.OF_ANY_ROUTE


def _parameters(dependant: Dependant) -> list[Any]:
    return [*dependant.path_params, *dependant.query_params, *dependant.header_params, *dependant.cookie_params]


def scopes_of(route: APIRoute) -> list[str] | None:
    """The scopes that ``route`` demands of its caller; None when anyone may call it."""
    demands = [found.call for found in dependants(route.dependant) if isinstance(found.call, Requires)]
    return sorted({scope for demand in demands for scope in demand.scopes}) if demands else None
