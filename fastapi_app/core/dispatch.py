"""Straight to a direct route: one regular expression finds it, and nothing that only others need stands between.

FastAPI asks its routes in turn, each with an expression of its own, and puts an exit stack and two layers of handlers
around every request: for a direct route as much work as the route itself (docs/decisions/0007-direct-routes.md).
"""

import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import cached_property
from http import HTTPStatus
from inspect import markcoroutinefunction
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_app.core.direct import DirectRoute
from project.asgi_scope import route_path


class DirectApi(FastAPI):
    """A FastAPI app that serves requests for its direct routes at once, and all others as FastAPI does.

    What differs from FastAPI: middleware that is added stands outside the handler of unexpected errors, so that it sees
    the 500s, too; routes that are added after the first request are found by FastAPI's router only; a path that ends in
    a newline is not found.
    """

    @markcoroutinefunction  # By which servers tell ASGI 3 from ASGI 2.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        if scope["type"] == "lifespan":
            return super().__call__(scope, receive, send)
        scope["app"] = self
        if self.root_path:
            scope["root_path"] = self.root_path
        answer: Any = self._entry(scope, receive, send)  # As an ASGI app has it, any awaitable; which does here, too.
        return answer  # type: ignore[no-any-return]

    def build_middleware_stack(self) -> ASGIApp:
        added, self.user_middleware = self.user_middleware, []  # They stand around both ways, at the entry.
        try:
            return super().build_middleware_stack()
        finally:
            self.user_middleware = added

    @cached_property
    def _entry(self) -> ASGIApp:
        self.middleware_stack = self.build_middleware_stack()  # From now on Starlette refuses to add to it.
        app: ASGIApp = self._serve
        for cls, args, kwargs in reversed(self.user_middleware):
            app = cls(app, *args, **kwargs)
        return app

    def _serve(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return super().__call__(scope, receive, send)
        if scope["path"].endswith("\n"):
            # Starlette's expressions end in $, which matches before a last newline, too: /users%0A would be /users, and
            # a Location made of it an invalid header. Here one comparison does for routes and mounts of every kind.
            scope["error"] = HTTPException(HTTPStatus.NOT_FOUND)
            return self._handle_error(scope, receive, send)
        route = self._index.find(scope)
        if isinstance(route, DirectRoute) and route.takes(scope):
            return self._serve_directly(route, scope, receive, send)
        return super().__call__(scope, receive, send)

    async def _serve_directly(self, route: DirectRoute, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"], scope["endpoint"] = route, route.endpoint
        has_begun = False

        def send_and_note(message: Message) -> Awaitable[None]:
            nonlocal has_begun
            has_begun = True
            return send(message)

        try:
            await route.serve(scope, receive, send_and_note)
        except Exception as error:
            if has_begun:
                raise
            scope["error"] = error
            await self._handle_error(scope, receive, send)

    @cached_property
    def _index(self) -> "RouteIndex":
        return RouteIndex(self.routes)

    @cached_property
    def _handle_error(self) -> ASGIApp:
        """FastAPI's two layers of handlers around a raised error."""
        handlers = dict(self.exception_handlers)
        unexpected = handlers.pop(500, None) or handlers.pop(Exception, None)
        return ServerErrorMiddleware(ExceptionMiddleware(_raise_error, handlers, self.debug), unexpected, self.debug)


async def _raise_error(scope: Scope, _receive: Receive, _send: Send) -> None:
    raise scope.pop("error")  # It has the scope in its traceback: a cycle, if it stayed.


class RouteIndex:
    """Finds what Starlette's router would: the first route with the request's method and path."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        known = list[Route]()
        for route in routes:
            if not isinstance(route, Route):  # A mount, for one: it may hide what comes after it.
                break
            known.append(route)
        self._of_method = {
            method: _Paths([route for route in known if route.methods is None or method in route.methods])
            for method in {method for route in known for method in route.methods or ()}
        }

    def find(self, scope: Scope) -> Route | None:
        """The route; the parameters in its path are then in ``scope``. None when the router has to look."""
        paths = self._of_method.get(scope["method"])
        if paths is None:
            return None
        match = paths.match(route_path(scope))
        if match is None or match.lastindex is None:
            return None
        route = paths.by_group[match.lastindex]
        if route.param_convertors:
            parameters = {
                name: route.param_convertors[name].convert(match[match.lastindex + group])
                for name, group in route.path_regex.groupindex.items()
            }
            scope["path_params"] = {**scope.get("path_params", {}), **parameters}
        return route


class _Paths:
    """The paths of some routes as one expression, and which route it is by the number of the group that matched."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.by_group: dict[int, Route] = {}
        group = 1
        for route in routes:
            self.by_group[group] = route
            group += 1 + route.path_regex.groups
        # Without their names, because two routes may have a parameter of one name.
        expressions = (re.sub(r"\(\?P<\w+>", "(", route.path_regex.pattern) for route in routes)
        self.match: Callable[[str], re.Match[str] | None] = re.compile("|".join(map("({})".format, expressions))).match
