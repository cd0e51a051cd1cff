"""Problems (RFC 9457): the one shape in which every error leaves ``/api``, whichever layer it comes from."""

import json
from collections.abc import Awaitable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from asgi_correlation_id import correlation_id
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEDIA_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """One thing that is wrong with a request."""

    detail: str
    pointer: str | None = None
    """Where in the body, as a JSON Pointer fragment (RFC 6901, section 6)."""
    parameter: str | None = None
    """Which path, query or header parameter."""
    line: int | None = None
    """Where in a file, counted from 1; ``pointer`` then leads into that line's object."""


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    request_id: str | None = None
    """Name it when you report the problem: the log lines of this request carry it."""
    errors: list[FieldError] | None = None
    """With 422: each thing that is wrong."""


PROBLEMS: dict[int, dict[str, Any]] = {
    status.value: {
        "description": status.phrase,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status in HTTPStatus
    if status >= HTTPStatus.BAD_REQUEST
}


PROBLEMS[HTTPStatus.TOO_MANY_REQUESTS]["headers"] = {
    "RateLimit-Policy": {
        "description": "The limits: at most q requests in w seconds (draft-ietf-httpapi-ratelimit-headers).",
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "What is left of each: r requests in the next t seconds.",
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
}


def responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """``responses=`` of a route: the problems that it can answer with."""
    return {status.value: PROBLEMS[status.value] for status in statuses}


def problem_response(
    status: int,
    detail: str | None = None,
    *,
    problem_type: str = "about:blank",
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, Any]] | None = None,
) -> Response:
    """A response with a problem as its body; members that say nothing are left out."""
    members = {
        "type": problem_type,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": correlation_id.get(),
        "errors": errors,
    }
    # ASCII, because a client may have sent half a surrogate pair in the very name that the problem repeats.
    body = json.dumps({name: value for name, value in members.items() if value is not None})
    return Response(body, status, headers, MEDIA_TYPE)


class ProblemResponses:
    """Root middleware: the plain-text errors of other middleware become problems where ``prefix`` begins the path."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self.prefix = prefix

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or not is_below(scope, self.prefix):
            return self.app(scope, receive, send)
        replaced: Message | None = None
        text = b""

        async def send_problem(message: Message) -> None:
            nonlocal replaced, text
            if replaced is None:
                replaced = message
                return
            text += message.get("body", b"")
            if not message.get("more_body", False):
                await _restate(replaced, text)(scope, receive, send)

        def send_or_replace(message: Message) -> Awaitable[None]:
            if replaced is None and not _is_plain_error(message):
                return send(message)
            return send_problem(message)

        return self.app(scope, receive, send_or_replace)


def is_below(scope: Scope, prefix: str) -> bool:
    """Whether the request's path is ``prefix`` or below it."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path == prefix or path.startswith(f"{prefix}/")


def _is_plain_error(message: Message) -> bool:
    return bool(
        message["type"] == "http.response.start"
        and message["status"] >= 400  # noqa: PLR2004  An enum's member would cost more than the rest.
        and Headers(raw=message["headers"]).get("content-type", "").startswith("text/plain")
    )


def _restate(start: Message, text: bytes) -> Response:
    kept = {
        name: value
        for name, value in Headers(raw=start["headers"]).items()
        if name not in {"content-type", "content-length"}
    }
    detail = text.decode(errors="replace")
    return problem_response(
        start["status"], None if detail == HTTPStatus(start["status"]).phrase else detail, headers=kept
    )
