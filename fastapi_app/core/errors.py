"""Errors: what the code raises, and how each leaves ``/api`` as a problem (RFC 9457). HTTP is decided here."""

import json
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import quote

from asgi_correlation_id import correlation_id
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
INVALID_REQUEST = "The request is not valid."
RETRY_AFTER_S = 5
"""What a 503 asks of a client: about the time a database takes to fail over or a pool to drain."""
UNAVAILABLE_SQLSTATES = ("08", "40", "53", "55P03", "57P")
"""PostgreSQL: connection lost, transaction to be retried, out of resources, lock not available, shutting down."""


class AppError(Exception):
    """An outcome that is not success, in the domain's words. Subclass one of the kinds below, a line each."""

    status: ClassVar[HTTPStatus]
    type: ClassVar[str] = "about:blank"
    detail: ClassVar[str | None] = None

    def __init__(self, detail: str | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail or self.detail or self.status.phrase)
        self.headers = headers
        self.errors: list[dict[str, str]] | None = None


class Unauthenticated(AppError):
    """Nobody, or nobody whom we can believe, is asking."""

    status = HTTPStatus.UNAUTHORIZED


class Forbidden(AppError):
    """We know who is asking; they may not."""

    status = HTTPStatus.FORBIDDEN


class NotFound(AppError):
    """It does not exist, or not for the one who asks."""

    status = HTTPStatus.NOT_FOUND


class Conflict(AppError):
    """It contradicts what is there."""

    status = HTTPStatus.CONFLICT


class Unavailable(AppError):
    """Something this needs does not answer just now; the same request may succeed later."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": str(RETRY_AFTER_S)})


class InvalidParameter(AppError):
    """A parameter that parses but means nothing, such as a cursor of another making."""

    status = HTTPStatus.UNPROCESSABLE_CONTENT

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(INVALID_REQUEST)
        self.errors = [{"detail": detail, "parameter": parameter}]


class FieldError(BaseModel):
    """One thing that is wrong with a request."""

    detail: str
    pointer: str | None = None
    """Where in the body, as a JSON Pointer fragment (RFC 6901, section 6)."""
    parameter: str | None = None
    """Which path, query or header parameter."""


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


def responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """``responses=`` of a route: the problems that it can answer with."""
    return {status.value: PROBLEMS[status.value] for status in statuses}


def problem_response(
    status: int,
    detail: str | None = None,
    *,
    problem_type: str = "about:blank",
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, str]] | None = None,
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


async def _app_error(_request: Request, error: AppError) -> Response:
    return problem_response(
        error.status, str(error), problem_type=error.type, headers=error.headers, errors=error.errors
    )


async def _http_exception(_request: Request, error: HTTPException) -> Response:
    detail = None if error.detail == HTTPStatus(error.status_code).phrase else error.detail
    return problem_response(error.status_code, detail, headers=error.headers)


async def _validation_error(_request: Request, error: RequestValidationError) -> Response:
    if isinstance(error.body, bytes):
        # FastAPI leaves a body undecoded when its Content-Type does not say that it is JSON.
        return problem_response(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send the body with Content-Type: application/json.")
    return problem_response(
        HTTPStatus.UNPROCESSABLE_CONTENT, INVALID_REQUEST, errors=[_field_error(fault) for fault in error.errors()]
    )


def _field_error(fault: Mapping[str, Any]) -> dict[str, str]:
    place, *path = fault["loc"]
    if fault["type"] == "json_invalid":
        return {"detail": f"The body is not JSON: {fault['ctx']['error']} at character {path[0]}.", "pointer": "#"}
    if place != "body":
        return {"detail": fault["msg"], "parameter": ".".join(map(str, path))}
    return {"detail": fault["msg"], "pointer": json_pointer(path)}


def json_pointer(path: Sequence[str | int]) -> str:
    """A path into a JSON document as a URI fragment (RFC 6901, section 6)."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return "#" + "".join(f"/{quote(step, safe='~', errors='replace')}" for step in steps)


def is_unavailable(error: Exception) -> bool:
    """Whether a database error is one of circumstance (lost, busy, shutting down), not of what was asked of it."""
    if isinstance(error, PoolTimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    sqlstate = getattr(error.orig, "sqlstate", None) or ""
    return (
        error.connection_invalidated
        or isinstance(error, OperationalError)
        or sqlstate.startswith(UNAVAILABLE_SQLSTATES)
    )


async def _database_error(request: Request, error: Exception) -> Response:
    if not is_unavailable(error):
        raise error  # A mistake of ours: a 500, with its traceback in the log.
    logger.warning("the database is unavailable: %s", error)
    return await _app_error(request, Unavailable("The database does not answer just now."))


async def _server_error(_request: Request, _error: Exception) -> Response:
    # Starlette raises the exception again once this is sent, and the server logs it under the same request id.
    return problem_response(
        HTTPStatus.INTERNAL_SERVER_ERROR, "This is our fault. Report it with the request_id, which our log has too."
    )


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    AppError: _app_error,
    HTTPException: _http_exception,
    RequestValidationError: _validation_error,
    DBAPIError: _database_error,
    PoolTimeoutError: _database_error,
    Exception: _server_error,
}
"""What makes every error that reaches the API a problem: FastAPI's ``exception_handlers``."""


class ProblemResponses:
    """Root middleware: the plain-text errors of other middleware become problems where ``prefix`` begins the path."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self.prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_below(scope, self.prefix):
            await self.app(scope, receive, send)
            return
        replaced: Message | None = None
        text = b""

        async def send_problem(message: Message) -> None:
            nonlocal replaced, text
            if message["type"] == "http.response.start" and _is_plain_error(message):
                replaced = message
                return
            if replaced is None:
                await send(message)
                return
            text += message.get("body", b"")
            if not message.get("more_body", False):
                await _restate(replaced, text)(scope, receive, send)

        await self.app(scope, receive, send_problem)


def is_below(scope: Scope, prefix: str) -> bool:
    """Whether the request's path is ``prefix`` or below it."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path == prefix or path.startswith(f"{prefix}/")


def _is_plain_error(message: Message) -> bool:
    return bool(
        message["status"] >= HTTPStatus.BAD_REQUEST
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


async def root_server_error(request: Request, error: Exception) -> Response:
    """The root app's answer to an exception that no mount handled: a problem for the API, a plain line elsewhere."""
    request_id = {"X-Request-ID": correlation_id.get() or "-"}  # This stands outside the middleware that adds it.
    response = (
        await _server_error(request, error)
        if is_below(request.scope, "/api")
        else PlainTextResponse("Internal Server Error", HTTPStatus.INTERNAL_SERVER_ERROR)
    )
    response.headers.update(request_id)
    return response
