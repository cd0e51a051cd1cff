"""Errors: the kinds that the code raises, and the status with which each leaves ``/api``. HTTP is decided here."""

import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import quote

import asyncpg
from asgi_correlation_id import correlation_id
from fastapi.exceptions import RequestValidationError
from fastapi.utils import is_body_allowed_for_status_code
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from fastapi_app.core import problem_types
from fastapi_app.core.problem_types import GENERIC, ProblemType
from fastapi_app.core.problems import Responses, documented, problem_response, status_response
from project.asgi_scope import is_below
from project.http_limits import MAX_FAULT_LENGTH, MAX_FAULTS

logger = logging.getLogger(__name__)

INVALID_REQUEST = "The request is not valid."
DATABASE_UNAVAILABLE = "The database does not answer just now."
RETRY_AFTER_S = 5
"""What a 503 asks of a client: about the time a database takes to fail over or a pool to drain."""
UNAVAILABLE_SQLSTATES = ("08", "40", "53", "55P03", "57P")
"""PostgreSQL: connection lost, transaction to be retried, out of resources, lock not available, shutting down."""


class AppError(Exception):
    """An outcome that is not success, in the domain's words. Subclass one of the kinds below, with a problem each."""

    problem: ClassVar[ProblemType]
    """How clients tell it from other outcomes; ``/api/problems`` shows it."""
    detail: ClassVar[str | None] = None

    def __init__(self, detail: str | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail or self.detail or self.problem.title)
        self.headers = headers
        self.errors: list[dict[str, Any]] | None = None


class Unauthenticated(AppError):
    """Nobody, or nobody whom we can believe, is asking."""

    problem = problem_types.UNAUTHENTICATED


class Forbidden(AppError):
    """We know who is asking; they may not."""

    problem = problem_types.FORBIDDEN


class BadRequest(AppError):
    """It cannot be read, or not safely."""

    problem = problem_types.BAD_REQUEST


class NotFound(AppError):
    """It does not exist, or not for the one who asks."""

    problem = problem_types.NOT_FOUND


class NotAcceptable(AppError):
    """None of the forms that ``Accept`` names is to be had."""

    problem = problem_types.NOT_ACCEPTABLE


class Conflict(AppError):
    """It contradicts what is there."""

    problem = problem_types.CONFLICT


class PreconditionFailed(AppError):
    """It is not, or no longer, as the request's ``If-Match`` has it."""

    problem = problem_types.PRECONDITION_FAILED
    detail = "The resource has changed. Fetch it again, then decide and retry."


class PreconditionRequired(AppError):
    """The route changes nothing without ``If-Match`` (RFC 6585, section 3)."""

    problem = problem_types.PRECONDITION_REQUIRED
    detail = "Say which version you are changing: send its ETag as If-Match."


class UnsupportedMediaType(AppError):
    """The body is in a form that the route does not read."""

    problem = problem_types.UNSUPPORTED_MEDIA_TYPE


class KeyReused(AppError):
    """An ``Idempotency-Key`` came with another request before."""

    problem = problem_types.KEY_REUSED
    detail = "This Idempotency-Key was used for a different request: take a new key."


class InFlight(AppError):
    """The first request with this ``Idempotency-Key`` is still being answered."""

    problem = problem_types.KEY_IN_FLIGHT
    detail = "The first request with this Idempotency-Key is still being answered."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


class TooManyRequests(AppError):
    """More requests than the limit allows in its window."""

    problem = problem_types.TOO_MANY_REQUESTS

    def __init__(self, whose: str, wait_s: int) -> None:
        super().__init__(f"Too many requests of this {whose}.", headers={"Retry-After": str(wait_s)})


class TooManyStreams(AppError):
    """The caller has as many streams open as one caller may."""

    problem = problem_types.TOO_MANY_STREAMS

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": str(RETRY_AFTER_S)})


class InvalidRows(AppError):
    """Rows of a file are wrong; nothing of it was saved."""

    problem = problem_types.INVALID_ROWS
    detail = "The file was not imported: some lines are invalid."

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__()
        self.errors = errors


class Unavailable(AppError):
    """Something this needs does not answer just now; the same request may succeed later."""

    problem = problem_types.UNAVAILABLE

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": str(RETRY_AFTER_S)})


class Invalid(AppError):
    """It parses but breaks a rule; ``errors`` says where, each with a ``detail`` and a ``pointer`` or ``parameter``."""

    problem = problem_types.INVALID_REQUEST

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__(INVALID_REQUEST)
        self.errors = errors


class InvalidParameter(Invalid):
    """A parameter that parses but means nothing, such as a cursor of another making."""

    problem = problem_types.INVALID_REQUEST

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__([{"detail": detail, "parameter": parameter}])


def responses(*errors: type[AppError]) -> Responses:
    """``responses=`` of a route: the outcomes of its own. What any route can answer is documented by itself."""
    return documented(*(error.problem for error in errors))


def registry() -> dict[str, ProblemType]:
    """Every type of problem that a client can meet, by name, in the order of their statuses."""
    problems = [*GENERIC.values(), *(error.problem for error in _subclasses(AppError))]
    return {problem.name: problem for problem in sorted(problems, key=lambda problem: (problem.status, problem.name))}


def _subclasses(error: type[AppError]) -> Iterator[type[AppError]]:
    for subclass in error.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


async def _app_error(_request: Request, error: AppError) -> Response:
    return problem_response(error.problem, str(error), headers=error.headers, errors=error.errors)


async def _http_exception(_request: Request, error: HTTPException) -> Response:
    if not is_body_allowed_for_status_code(error.status_code):
        return Response(status_code=error.status_code, headers=error.headers)
    return status_response(error.status_code, error.detail, headers=error.headers)


async def _validation_error(_request: Request, error: RequestValidationError) -> Response:
    if isinstance(error.body, bytes):
        # FastAPI leaves a body undecoded when its Content-Type does not say that it is JSON.
        return problem_response(
            problem_types.UNSUPPORTED_MEDIA_TYPE, "Send the body with Content-Type: application/json."
        )
    faults = list(error.errors())
    listed = [_field_error(fault) for fault in faults[:MAX_FAULTS]]
    return problem_response(problem_types.INVALID_REQUEST, INVALID_REQUEST, errors=listed)


def _field_error(fault: Mapping[str, Any]) -> dict[str, str]:
    place, *path = fault["loc"]
    if fault["type"] == "json_invalid":
        return {"detail": f"The body is not JSON: {fault['ctx']['error']} at character {path[0]}.", "pointer": "#"}
    if place != "body":
        return {"detail": fault["msg"], "parameter": ".".join(map(str, path))}
    return {"detail": fault["msg"], "pointer": json_pointer(path)}


def json_pointer(path: Sequence[str | int]) -> str:
    """A path into a JSON document as a URI fragment (RFC 6901, section 6).

    Names in it are the caller's: where the pointer would become longer than ``MAX_FAULT_LENGTH``, it leads as far as it
    can, which is to what the faulty part is in.
    """
    pointer = "#"
    for step in path:
        name = str(step)[: MAX_FAULT_LENGTH + 1]
        longer = f"{pointer}/{quote(name.replace('~', '~0').replace('/', '~1'), safe='~', errors='replace')}"
        if len(longer) > MAX_FAULT_LENGTH:
            break
        pointer = longer
    return pointer


def is_unavailable(error: Exception) -> bool:
    """Whether a database error is one of circumstance (lost, busy, shutting down), not of what was asked of it."""
    if isinstance(error, PoolTimeoutError | OperationalError | asyncpg.InternalClientError):
        return True  # The last is what asyncpg says of a connection that the server ended this very moment.
    if isinstance(error, asyncpg.InterfaceError):
        # The connection, or the pool, "is closed" or "is closing"; or it has ended, and "has been released back".
        return any(word in str(error) for word in ("clos", "released"))
    sqlstate = getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlstate", None) or ""
    return getattr(error, "connection_invalidated", False) or sqlstate.startswith(UNAVAILABLE_SQLSTATES)


async def _database_error(request: Request, error: Exception) -> Response:
    if not is_unavailable(error):
        raise error  # A mistake of ours: a 500, with its traceback in the log.
    logger.warning("the database is unavailable: %s", error)
    return await _app_error(request, Unavailable(DATABASE_UNAVAILABLE))


async def _server_error(_request: Request, _error: Exception) -> Response:
    # Starlette raises the exception again once this is sent, and the root logs it under the same request id.
    return problem_response(
        problem_types.INTERNAL_ERROR, "This is our fault. Report it with the request_id, which our log has too."
    )


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    AppError: _app_error,
    HTTPException: _http_exception,
    RequestValidationError: _validation_error,
    DBAPIError: _database_error,
    PoolTimeoutError: _database_error,
    asyncpg.PostgresError: _database_error,
    asyncpg.InterfaceError: _database_error,
    asyncpg.InternalClientError: _database_error,
    Exception: _server_error,
}
"""What makes every error that reaches the API a problem: FastAPI's ``exception_handlers``."""


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
