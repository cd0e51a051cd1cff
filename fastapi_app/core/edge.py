"""What stands around the API for the sake of browsers and of the line: headers, other origins, compression."""

from collections.abc import Awaitable, Sequence

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette_compress import CompressMiddleware, remove_compress_type

from project.asgi_scope import header, is_below
from project.config import HSTS_S, Config
from project.http_limits import MAX_CACHED_TEXT

COMPRESS_FROM_BYTES = 1000
"""Below that a packet is sent all the same, and compressing only costs."""
ALLOWED_HEADERS = ("Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "X-Request-ID")
EXPOSED_HEADERS = (
    "Content-Disposition", "Deprecation", "ETag", "Idempotency-Replayed", "Link", "Location", "RateLimit",
    "RateLimit-Policy", "Retry-After", "Sunset", "WWW-Authenticate", "X-Request-ID",
)  # fmt: skip
"""What scripts of other origins may read of a response, besides what they always may."""


def security_headers(config: Config) -> dict[str, str]:
    """What every response of the API says to a browser; its few pages add a policy of their own."""
    always = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
    if config.is_production and config.is_https:
        options = {"includeSubDomains": config.hsts_include_subdomains, "preload": config.hsts_preload}
        chosen = [f"max-age={HSTS_S}", *(name for name, is_chosen in options.items() if is_chosen)]
        always["Strict-Transport-Security"] = "; ".join(chosen)
    return always


class CrossOrigin:
    """Root middleware: lets scripts of some origins call what is below ``prefixes``, errors of the edge included."""

    def __init__(self, app: ASGIApp, prefixes: Sequence[str], origins: Sequence[str]) -> None:
        self.app = app
        self.prefixes = prefixes
        self._for_browsers = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=ALLOWED_HEADERS,
            expose_headers=EXPOSED_HEADERS,
        )

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or not any(is_below(scope, prefix) for prefix in self.prefixes):
            return self.app(scope, receive, send)
        if header(scope, b"origin") is not None:
            return self._for_browsers(scope, receive, send)

        def send_varying(message: Message) -> Awaitable[None]:
            # As for browsers: caches must keep answers for different origins apart.
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"vary", b"Origin")]
            return send(message)

        return self.app(scope, receive, send_varying)


def cross_origin(config: Config, *prefixes: str) -> list[Middleware]:
    """What lets scripts of ``CORS_ORIGINS`` call what is below ``prefixes``; nothing, at no cost, when there are none.

    No cookie is ever allowed with it: the API knows none, and a caller shows a token.
    """
    return [Middleware(CrossOrigin, prefixes, config.cors_origins)] if config.cors_origins else []


class Compression:
    """Middleware: Zstandard, Brotli or gzip, for clients that ask, and for responses that are worth it.

    Events are left alone: each must arrive when it happens. So is the response to an ``Accept-Encoding`` that is longer
    than any client's, because the library remembers the headers that it has read.
    """

    def __init__(self, app: ASGIApp) -> None:
        remove_compress_type("text/event-stream")
        self.app = app
        self._compressing = CompressMiddleware(app, minimum_size=COMPRESS_FROM_BYTES)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        asked = [value for name, value in scope["headers"] if name == b"accept-encoding"]
        is_asked_for = asked and sum(map(len, asked)) <= MAX_CACHED_TEXT
        return (self._compressing if is_asked_for else self.app)(scope, receive, send)
