"""Streams: a response that is made while it is sent costs the event loop as long as it lasts.

So each caller has a few at a time, and a caller who opens hundreds takes no time from the others.
"""

from inspect import isasyncgenfunction, isgeneratorfunction, unwrap
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from fastapi_app.core.errors import TooManyStreams
from fastapi_app.core.problems import problem_response
from fastapi_app.core.requests import resources_of
from project.networks import network


class StreamPlaces:
    """How many streams each caller has open in this process."""

    def __init__(self, most: int) -> None:
        self.most = most
        """Places that a caller has."""
        self._taken: dict[str, int] = {}

    def take(self, whose: str) -> bool:
        """Take one of the caller's places; whether there was one."""
        taken = self._taken.get(whose, 0)
        if taken >= self.most:
            return False
        self._taken[whose] = taken + 1
        return True

    def give_back(self, whose: str) -> None:
        """Give back a place that was taken."""
        self._taken[whose] -= 1
        if not self._taken[whose]:
            del self._taken[whose]


class PlacedStream(Response):
    """A stream that holds a place of its caller's from before its first byte until it ends, however it ends."""

    def __init__(self, stream: StreamingResponse) -> None:
        self._stream = stream
        self.status_code = stream.status_code
        self.raw_headers = stream.raw_headers
        self.background = stream.background

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "resources" not in scope.get("state", {}):  # An API that is served without the root has no places to keep.
            await self._stream(scope, receive, send)
            return
        places, caller = resources_of(Request(scope)).streams, _caller(scope)
        if not places.take(caller):
            # It is not raised, because FastAPI would send it through the task group that makes server-sent events.
            error = TooManyStreams(f"You have {places.most} streamed responses open, which is as many as you may.")
            await problem_response(error.problem, str(error), headers=error.headers)(scope, receive, send)
            return
        try:
            await self._stream(scope, receive, send)
        finally:
            places.give_back(caller)


def declares_stream(route: APIRoute) -> bool:
    """Whether a route declares that it streams: by its response class, or by an endpoint that yields."""
    response_class: Any = getattr(route.response_class, "value", route.response_class)
    endpoint = unwrap(route.endpoint)
    is_generator = isasyncgenfunction(endpoint) or isgeneratorfunction(endpoint)
    return is_generator or issubclass(response_class, StreamingResponse)


def placed(response: Response) -> Response:
    """The response, which needs a place when it is a stream."""
    return PlacedStream(response) if isinstance(response, StreamingResponse) else response


def _caller(scope: Scope) -> str:
    known: str | None = scope.get("caller")
    if known is not None:
        return known
    return network(scope["client"][0] if scope["client"] else "")
