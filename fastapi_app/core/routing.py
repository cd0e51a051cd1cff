"""Routes that keep HTTP's promises, and adding them so that a request finds them directly."""

from collections.abc import Coroutine, Iterable
from http import HTTPStatus
from inspect import signature
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from fastapi_app.core.deprecation import deprecation_of
from fastapi_app.core.direct import DirectRoute
from fastapi_app.core.negotiation import preferred
from project.asgi_scope import header

_OPTIONS = signature(APIRouter.add_api_route).parameters.keys() & signature(APIRoute).parameters.keys() - {
    "path",
    "endpoint",
}
"""What a route was declared with, by the names under which it keeps it."""


class ContractRoute(DirectRoute):
    """A route that answers 405 with all methods of its address, and 406 to who does not take the one form it has.

    A route that declares several forms chooses among them itself, with ``negotiation.preferred``.

    Raises:
        HTTPException: 405, another method; Starlette's would name those of the first matching route only.
        NotAcceptable: the ``Accept`` header excludes the media type that the route declares for success.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._media_types = media_types(self)
        self._is_negotiated = len(self._media_types) == 1
        self._accepted_by_all = {None, b"*/*", *(media_type.encode() for media_type in self._media_types)}
        deprecation = deprecation_of(self.openapi_extra)
        self.deprecation_headers = deprecation.headers() if deprecation else []

    def handle(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        if scope["method"] not in (self.methods or ()):
            raise method_not_allowed(_methods(scope))
        self._negotiate(scope)
        return super().handle(scope, receive, send)

    def serve(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        self._negotiate(scope)
        return super().serve(scope, receive, send)

    def _negotiate(self, scope: Scope) -> None:
        if self._is_negotiated and header(scope, b"accept") not in self._accepted_by_all:
            preferred(scope, self._media_types)


LOCATION: dict[int | str, dict[str, Any]] = {
    201: {"headers": {"Location": {"description": "The address of the new resource.", "schema": {"type": "string"}}}}
}
"""``responses`` of a route that creates a resource."""


def location(request: Request, resource_id: object) -> str:
    """The ``Location`` (RFC 9110, section 10.2.2) of a resource that was created by a POST to its list."""
    return f"{quote(request.scope['path'])}/{resource_id}"


def media_types(route: APIRoute) -> tuple[str, ...]:
    """What the route sends on success, as it declares it; nothing where it declares nothing."""
    if route.status_code == HTTPStatus.NO_CONTENT or not route.include_in_schema:
        return ()
    declared = [
        media_type
        for status, response in route.responses.items()
        if str(status).startswith("2")
        for media_type in response.get("content", {})
    ]
    response_class: Any = getattr(route.response_class, "value", route.response_class)
    own = response_class.media_type if issubclass(response_class, Response) else None
    return tuple(dict.fromkeys([*([own] if own else []), *declared]))


def _methods(scope: Scope) -> set[str]:
    """Every method that some route has for the request's address; routes that spell it out hide those with a place."""
    found = [
        route
        for route in scope["app"].routes
        if isinstance(route, ContractRoute) and route.matches(scope)[0] is not Match.NONE
    ]
    spelt_out = [route for route in found if not route.param_convertors]
    return {method for route in spelt_out or found for method in route.methods or ()}


def method_not_allowed(methods: Iterable[str]) -> HTTPException:
    """A 405 that names ``methods``."""
    return HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(sorted(methods))})


def add_route(api: FastAPI, path: str, route: APIRoute, **changes: Any) -> None:
    """Add ``route`` to ``api`` itself, at ``path``, as it was declared but for ``changes``.

    ``include_router`` leaves a route in its router, and matches a request there once more: a tenth of what FastAPI does
    for a request. What belongs to the router alone (its lifespan, its dependencies) must be on the routes or the app.
    """
    options = {name: getattr(route, name) for name in _OPTIONS}
    own_class = type(route) if isinstance(route, ContractRoute) else ContractRoute
    api.router.add_api_route(path, route.endpoint, **{**options, **changes}, route_class_override=own_class)
