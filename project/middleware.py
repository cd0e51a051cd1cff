"""The root's middleware: plain ASGI, so that streaming, disconnects and context variables work through it.

What has nothing to do after the app it wraps is no coroutine: it returns that app's, which then costs a call instead of
a layer that every message and every suspension passes through.
"""

import random
import re
import sys
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial

from asgi_correlation_id import correlation_id
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from project.asgi_scope import header, route_path
from project.config import StartupError
from project.http_limits import (
    MAX_CACHED_TEXT,
    MAX_HEADER_BYTES,
    MAX_HEADER_LENGTH,
    MAX_HEADER_LINES,
    MAX_LIST_PARTS,
    MAX_QUERY_PARAMETERS,
    MAX_TARGET_LENGTH,
)

is_sane_request_id = re.compile(rb"[A-Za-z0-9._-]{8,64}").fullmatch
"""Whether a caller's ``X-Request-ID`` may go into logs and responses as it is."""
ANNOUNCE_BODIES = frozenset({"1.0", "1.1"})
"""The versions of HTTP that announce a body in a header (RFC 9112, section 6); their successors need not."""
LONGEST_LENGTH = 18
"""Digits of a body's length that are worth reading: it is then below 2**63."""


class RequestId:
    """Take the caller's ``X-Request-ID`` when it is sane, else make one; put it into every response and log line."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self.app(scope, receive, send)
        given = header(scope, b"x-request-id")
        # Unique is enough, and a tenth of the price of unguessable.
        request_id = given if given is not None and is_sane_request_id(given) else b"%032x" % random.getrandbits(128)
        correlation_id.set(request_id.decode())

        def send_with_id(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
            return send(message)

        return self.app(scope, receive, send_with_id)


class HeadLimits:
    """Refuses a request whose head is larger than ``project.http_limits`` allows, before any other layer reads it.

    It judges every head that has an end. ``project.protocol`` bounds only a head that has none.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self.app(scope, receive, send)
        headers, query = scope["headers"], scope.get("query_string", b"")
        size, is_long_list = 0, False
        for name, value in headers:  # Most requests end here: what the bounds cost them is this loop.
            size += len(name) + len(value)
            if len(value) > MAX_LIST_PARTS and value.count(b",") + value.count(b";") > MAX_LIST_PARTS:
                is_long_list = True
        if size > MAX_HEADER_LENGTH or is_long_list or len(headers) > MAX_HEADER_LINES:
            fault = _fault_of(headers)
            if fault is not None:
                return _refuse(431, fault)(scope, receive, send)
        if len(query) + len(scope.get("raw_path") or scope["path"]) > MAX_TARGET_LENGTH:
            return _refuse(414, f"The address is longer than {MAX_TARGET_LENGTH} bytes.")(scope, receive, send)
        if query.count(b"&") >= MAX_QUERY_PARAMETERS:
            return _refuse(400, f"The query has more than {MAX_QUERY_PARAMETERS} parameters.")(scope, receive, send)
        return self.app(scope, receive, send)


def _fault_of(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    if len(headers) > MAX_HEADER_LINES:
        return f"There are more than {MAX_HEADER_LINES} headers."
    size = 0
    for name, value in headers:
        length = len(name) + len(value)
        size += length
        if length > MAX_HEADER_LENGTH:
            return f"A header is longer than {MAX_HEADER_LENGTH} bytes."
        # What separates cookies is the semicolon only: programs write commas into their values.
        if value.count(b";") + (0 if name == b"cookie" else value.count(b",")) > MAX_LIST_PARTS:
            return f"A header has more than {MAX_LIST_PARTS} parts."
    return f"The headers have more than {MAX_HEADER_BYTES} bytes." if size > MAX_HEADER_BYTES else None


def _refuse(status: int, reason: str) -> ASGIApp:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = WebSocketClose() if scope["type"] == "websocket" else PlainTextResponse(reason, status)
        await app(scope, receive, send)

    return refuse


class TrustedHosts:
    """Starlette's check of the ``Host`` header, made once for each spelling that it lets through."""

    MOST_KNOWN = 100
    """Spellings: a wildcard, or a port, lets through more than a process should remember."""

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str]) -> None:
        self.app = app
        self._check = TrustedHostMiddleware(self._admit, allowed_hosts, www_redirect=False)
        self._known: set[bytes | None] = set()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        is_known = scope["type"] == "lifespan" or header(scope, b"host") in self._known
        return (self.app if is_known else self._check)(scope, receive, send)

    def _admit(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        host = header(scope, b"host")
        if len(self._known) < self.MOST_KNOWN and len(host or b"") <= MAX_CACHED_TEXT:
            self._known.add(host)
        return self.app(scope, receive, send)


class BodyLimit:
    """Starlette's limit on the size of a body, for the requests that have one; some paths have their own.

    A body whose length is declared and within the limit is not counted: a server hands on no more than was declared
    (RFC 9112, section 6.3).
    """

    def __init__(self, app: ASGIApp, max_body_size: int, own: Mapping[str, int] | None = None) -> None:
        self.app = app
        self._limited = RequestBodyLimitMiddleware(app, max_body_size)
        self._own = {path: RequestBodyLimitMiddleware(app, size) for path, size in (own or {}).items()}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        length, is_in_parts = header(scope, b"content-length"), header(scope, b"transfer-encoding") is not None
        if length is None and not is_in_parts and scope["http_version"] in ANNOUNCE_BODIES:
            return self.app(scope, receive, send)
        limited = self._own.get(route_path(scope), self._limited)
        is_known = length is not None and not is_in_parts and _is_at_most(length, limited.max_body_size)
        return (self.app if is_known else limited)(scope, receive, send)


def _is_at_most(length: bytes, most: int) -> bool:
    return length.isdigit() and len(length) <= LONGEST_LENGTH and int(length) <= most


class LifespanRequiredError(RuntimeError):
    """A request carries no lifespan state (``--lifespan off``, a bare test transport)."""


class RequireLifespan:
    """Mind the lifespan: an error in it is told in one line where it can be, and without it nothing is served.

    Raises:
        LifespanRequiredError: the lifespan did not run; the message says how to run it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self.app(scope, receive, partial(_send_one_line, send))
        if "resources" not in scope.get("state", {}):
            raise LifespanRequiredError(
                "the lifespan did not run, so there is no database: serve with 'uvicorn asgi:app --lifespan on', "
                "and in tests enter the lifespan (asgi_lifespan.LifespanManager) and call its app"
            )
        return self.app(scope, receive, send)


async def _send_one_line(send: Send, message: Message) -> None:
    # Starlette sends the failure while it handles the exception, which is how this line can know it.
    error = sys.exception()
    if message["type"] == "lifespan.startup.failed" and isinstance(error, StartupError):
        message = {**message, "message": f"tandem: {error}"}
    await send(message)
