"""Mounting: a mounted app's lifespan never runs, so an app that declares one is refused, not ignored."""

import inspect
from collections.abc import Awaitable, Iterator, Sequence
from itertools import islice
from typing import Any

from fastapi import APIRouter
from starlette.middleware import Middleware
from starlette.routing import Mount, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from project.asgi_scope import route_path

_EMPTY_LIFESPANS = (type(Router().lifespan_context), type(APIRouter().lifespan_context))


class MountedLifespanError(RuntimeError):
    """A mounted app declares start-up or shutdown work that would silently never run."""


def mount(path: str, app: ASGIApp, *, middleware: Sequence[Middleware] = ()) -> Mount:
    """Mount ``app``, once it is certain that it, and whatever it mounts or includes, has no lifespan of its own.

    Raises:
        MountedLifespanError: it has one; the message names the app and the cure.
    """
    for place, router in _routers(path, app):
        if _declares_lifespan(router):
            raise MountedLifespanError(
                f"the app mounted at {place!r} declares a lifespan or start-up handlers, which never run under a "
                "mount: move what it opens into the root's lifespan in asgi.py, as a field of Resources"
            )
    return Mount(path, app, middleware=middleware)


class MountBeforeRouter:
    """Root middleware: what ``mount`` does, before the router and for the path that most requests are meant for.

    There it costs one comparison. Behind the root's exception handlers, its router and a regular expression, it would
    cost as much as a third of what the mounted API does itself (docs/decisions/0016-lean-root.md).

    Raises:
        MountedLifespanError: as ``mount`` does.
    """

    def __init__(self, app: ASGIApp, path: str, mounted: ASGIApp, middleware: Sequence[Middleware] = ()) -> None:
        self.app = app
        self.path = path
        self._below = f"{path}/"
        own = mount(path, mounted, middleware=middleware)
        self._mounted = own.app
        # By which url_for finds names, for whoever asks: those of what is mounted here, then the root's router's.
        roots = [Mount("", router) for _place, router in islice(_routers("", app), 1)]
        self._router = Router([own, *roots])

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self.app(scope, receive, send)
        scope["router"] = self._router
        if not route_path(scope).startswith(self._below):
            return self.app(scope, receive, send)
        # Where the site begins, which a mount of Starlette's says, too, and where the mounted app does.
        scope["app_root_path"] = root_path = scope.get("root_path", "")
        scope["root_path"] = root_path + self.path
        return self._mounted(scope, receive, send)


def _routers(path: str, app: Any) -> Iterator[tuple[str, Any]]:
    """Every router at or below ``app``, looking through middleware (``.app``) and mounts (``.routes``)."""
    router = getattr(app, "router", app)
    if hasattr(router, "lifespan_context"):
        yield path, router
        for route in router.routes:
            if isinstance(route, Mount):
                yield from _routers(path + route.path, route.app)
    elif hasattr(app, "app"):
        yield from _routers(path, app.app)


def _declares_lifespan(router: Any) -> bool:
    handlers = [*getattr(router, "on_startup", ()), *getattr(router, "on_shutdown", ())]
    return bool(handlers) or not _is_empty(router.lifespan_context)


def _is_empty(lifespan: Any) -> bool:
    if isinstance(lifespan, _EMPTY_LIFESPANS):
        return True
    # FastAPI's include_router() merges two lifespans, even two empty ones, into a function that closes over both.
    merged = inspect.unwrap(lifespan) if inspect.isfunction(lifespan) else None
    if merged is None or merged.__module__ != APIRouter.__module__:
        return False
    return all(_is_empty(part) for part in inspect.getclosurevars(merged).nonlocals.values())
