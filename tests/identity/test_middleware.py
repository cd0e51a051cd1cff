"""Django middleware of ours under wrappers, as APM agents install them: either protocol, or the hooks alone."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.test import AsyncRequestFactory, RequestFactory
from django.test import Client as DjangoClient
from django.utils.module_loading import import_string

from project.identity.limits import LIMITS, REFUSALS, limiter

OURS = [path for path in settings.MIDDLEWARE if path.startswith("project.")]


def wrapped(path: str) -> Callable[[Any], Any]:
    """A middleware in a class of an APM agent's, which calls ``__acall__`` itself where there is one.

    This is how Sentry's integration of Django wraps each entry of ``MIDDLEWARE``.
    """
    middleware = import_string(path)

    class Wrapper:
        sync_capable = getattr(middleware, "sync_capable", True)
        async_capable = getattr(middleware, "async_capable", False)

        def __init__(self, get_response: Any) -> None:
            self.inner = middleware(get_response)
            self.is_async = iscoroutinefunction(get_response)
            if self.is_async:
                markcoroutinefunction(self)

        def __getattr__(self, name: str) -> Any:
            if not name.startswith("process_"):
                raise AttributeError(name)
            return getattr(self.inner, name)

        def __call__(self, request: HttpRequest) -> Any:
            return self.__acall__(request) if self.is_async else self.inner(request)

        async def __acall__(self, request: HttpRequest) -> Any:
            return await getattr(self.inner, "__acall__", self.inner)(request)

    return Wrapper


def view(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("the view")


async def async_view(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("the view")


PATHS = ["/", "/.well-known/jwks.json", "/accounts/login/", "/o/token/", "/o/introspect/", "/static/x.css"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT"])
@pytest.mark.parametrize("name", OURS)
def test_middleware__called_by_either_protocol__answers(name: str, method: str, path: str) -> None:
    make = wrapped(name)

    by_call = make(view)(RequestFactory().generic(method, path))
    by_acall = asyncio.run(make(async_view)(AsyncRequestFactory().generic(method, path)))

    assert by_call.content == by_acall.content == b"the view"


@pytest.mark.parametrize("name", OURS)
def test_middleware__says_what_it_can__is_both(name: str) -> None:
    """Of what says otherwise, Django adapts each call by a thread."""
    middleware = import_string(name)

    assert middleware.sync_capable
    assert middleware.async_capable
    assert iscoroutinefunction(middleware(async_view))
    assert not iscoroutinefunction(middleware(view))


@pytest.mark.parametrize("name", OURS)
def test_middleware__bare_acall__answers_like_a_call(name: str) -> None:
    async def ask() -> HttpResponseBase:
        middleware: Any = import_string(name)(async_view)
        request: ASGIRequest = AsyncRequestFactory().get("/x")
        acall: Callable[[HttpRequest], Awaitable[HttpResponseBase]] = getattr(middleware, "__acall__", middleware)
        return await acall(request)

    assert asyncio.run(ask()).status_code == 200


@pytest.mark.attack
def test_limits__hooks_called_for_what_is_not_limited__count_and_refuse_nothing() -> None:
    limits = import_string("project.identity.limits.SignInLimits")(view)
    for _ in range(REFUSALS.rate.amount + 1):
        limits.process_response(RequestFactory().get("/accounts/login/"), HttpResponse(status=403))
        limits.process_response(RequestFactory().post("/elsewhere/"), HttpResponse(status=403))

    assert limiter().allows(REFUSALS, "127.0.0.1")
    assert limits.process_request(RequestFactory().get("/accounts/login/")) is None
    assert limits.process_request(RequestFactory().post("/elsewhere/")) is None


def test_limits__under_a_wrapper__still_refuse() -> None:
    make = wrapped("project.identity.limits.SignInLimits")
    (limit,) = LIMITS["/o/token/"]
    for _ in range(limit.rate.amount):
        limiter().count(limit, "127.0.0.1")

    assert make(view)(RequestFactory().post("/o/token/")).status_code == 429
    assert asyncio.run(make(async_view)(AsyncRequestFactory().post("/o/token/"))).status_code == 429


def test_pages__under_a_synchronous_server__answer(database: str) -> None:
    assert DjangoClient().get("/accounts/login/").status_code == 200
