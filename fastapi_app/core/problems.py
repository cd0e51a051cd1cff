"""Problems (RFC 9457): the one shape in which every error leaves ``/api``, whichever layer it comes from."""

import json
from collections.abc import Awaitable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from asgi_correlation_id import correlation_id
from pydantic import BaseModel, ConfigDict
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_app.core.problem_types import GENERIC, ProblemType
from project.asgi_scope import is_below
from project.http_limits import MAX_FAULT_LENGTH

MEDIA_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    detail: str
    pointer: str | None = None
    """Where in the body, as a JSON Pointer fragment (RFC 6901, section 6)."""
    parameter: str | None = None
    """Which path, query or header parameter."""
    line: int | None = None
    """Where in a file, counted from 1; ``pointer`` then leads into that line's object."""


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str
    """Which kind of problem it is, and the address of a page about it. Branch on this, not on the title."""
    title: str
    status: int
    detail: str | None = None
    """What went wrong this time, for people."""
    request_id: str | None = None
    """Name it when you report the problem: the log lines of this request carry it."""
    errors: list[FieldError] | None = None
    """With 422: each thing that is wrong."""


type Responses = dict[int | str, dict[str, Any]]
"""What FastAPI takes as ``responses=``: what is declared of each status."""


def documented(*problems: ProblemType) -> Responses:
    """``responses=`` of a route: the problems that it can answer with, by status, each with an example."""
    answers: Responses = {}
    for problem in problems:
        answer = answers.setdefault(
            problem.status.value,
            {
                "description": problem.phrase,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        answer["content"][MEDIA_TYPE]["examples"][problem.name] = {
            "summary": problem.title,
            "description": problem.when,
            "value": example(problem),
        }
        for name, meaning in problem.headers.items():
            answer.setdefault("headers", {})[name] = {"description": meaning, "schema": {"type": "string"}}
    return answers


def merged(own: Responses, common: Responses) -> Responses:
    """Both; where they share a status, the examples and headers of both."""
    return {
        status: _merged_response(own.get(status, {}), common.get(status, {}))
        for status in sorted({*own, *common}, key=str)
    }


def _merged_response(own: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    response = {**common, **own}
    for name in common.keys() & own.keys():
        if isinstance(response[name], dict):
            response[name] = _merged_response(own[name], common[name])
    return response


def example(problem: ProblemType) -> dict[str, Any]:
    """What a problem of this type looks like."""
    members: dict[str, Any] = {
        "type": problem.uri,
        "title": problem.title,
        "status": problem.status.value,
        "detail": problem.when,
        "request_id": "0123456789abcdef0123456789abcdef",
    }
    if problem.errors:
        members["errors"] = list(problem.errors)
    return members


def problem_response(
    problem: ProblemType,
    detail: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, Any]] | None = None,
    status: int | None = None,
) -> Response:
    """A response with a problem as its body; members that say nothing are left out. ``status`` replaces the type's.

    Texts may repeat what the request had in it, so the longest are cut.
    """
    status = status or problem.status
    members = {
        "type": problem.uri if problem.name else "about:blank",
        "title": problem.title,
        "status": status,
        "detail": None if detail is None else _shortened(detail),
        "request_id": correlation_id.get(),
        "errors": None if errors is None else [_shortened_texts(error) for error in errors],
    }
    # ASCII, because a client may have sent half a surrogate pair in the very name that the problem repeats.
    body = json.dumps({name: value for name, value in members.items() if value is not None})
    return Response(body, status, headers, MEDIA_TYPE)


def _shortened_texts(error: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _shortened(value) if isinstance(value, str) else value for name, value in error.items()}


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_FAULT_LENGTH else f"{text[: MAX_FAULT_LENGTH - 3]}..."


def status_response(status: int, detail: str | None, *, headers: Mapping[str, str] | None = None) -> Response:
    """The problem of which only the status is known; ``about:blank`` where that says it all (RFC 9457, 4.2.1)."""
    # One that is not registered counts as the first of its class (RFC 9110, section 15), and is sent as it is.
    known = HTTPStatus(status if status in HTTPStatus else status // 100 * 100)
    blank = ProblemType("", known, known.phrase, "", "")
    problem = GENERIC.get(known, blank) if known == status else blank
    return problem_response(problem, None if detail == known.phrase else detail, headers=headers, status=status)


class ProblemResponses:
    """Root middleware, where ``prefix`` begins the path: plain-text errors become problems, and ``headers`` are added.

    It stands outside what else refuses requests (hosts, bodies, deadlines), so that their answers are like the API's.
    An error that is compressed stays as it is.
    """

    def __init__(self, app: ASGIApp, prefix: str, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        self.app = app
        self.prefix = prefix
        self.headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or not is_below(scope, self.prefix):
            return self.app(scope, receive, send)
        send_on = send

        def send_or_restate(message: Message) -> Awaitable[None]:
            nonlocal send_on
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.headers]
                if _is_plain_error(message):
                    send_on = _Restatement(scope, receive, send).collect
            return send_on(message)

        return self.app(scope, receive, send_or_restate)


class _Restatement:
    """Holds a plain-text error back until it is complete, and sends it as a problem."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._channels = scope, receive, send
        self._start: Message = {}
        self._text = b""

    async def collect(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._text += message.get("body", b"")
        if not message.get("more_body", False):
            await _restate(self._start, self._text)(*self._channels)


def _is_plain_error(message: Message) -> bool:
    if message["status"] < 400:  # noqa: PLR2004  An enum's member would cost more than the rest.
        return False
    headers = Headers(raw=message["headers"])
    return headers.get("content-type", "").startswith("text/plain") and "content-encoding" not in headers


def _restate(start: Message, text: bytes) -> Response:
    response = status_response(start["status"], text.decode(errors="replace"))
    # As they came, because a name may be there twice.
    response.raw_headers += [
        (name, value) for name, value in start["headers"] if name not in {b"content-type", b"content-length"}
    ]
    return response
