"""What stands around the API for the sake of browsers and of the line: headers, other origins, compression."""

from collections.abc import Sequence

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette_compress import CompressMiddleware, remove_compress_type

from fastapi_app.core.problems import is_below
from project.config import Config

HSTS_S = 60 * 60 * 24 * 365
"""How long browsers come by https only; as long as Django tells them for its pages."""
COMPRESS_FROM_BYTES = 1000
"""Below that a packet is sent all the same, and compressing only costs."""
ALLOWED_HEADERS = ("Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "X-Request-ID")
EXPOSED_HEADERS = (
    "Deprecation", "ETag", "Idempotency-Replayed", "Link", "Location", "RateLimit", "RateLimit-Policy", "Retry-After",
    "Sunset", "WWW-Authenticate", "X-Request-ID",
)  # fmt: skip
"""What scripts of other origins may read of a response, besides what they always may."""


def security_headers(config: Config) -> dict[str, str]:
    """What every response of the API says to a browser; its few pages add a policy of their own."""
    always = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
    if config.is_production and config.is_https:
        always["Strict-Transport-Security"] = f"max-age={HSTS_S}; includeSubDomains; preload"
    return always


class CrossOrigin(CORSMiddleware):
    """Root middleware: lets scripts of some origins call what is below ``prefix``, the errors of the edge included."""

    def __init__(self, app: ASGIApp, prefix: str, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=ALLOWED_HEADERS,
            expose_headers=EXPOSED_HEADERS,
        )
        self.prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_below(scope, self.prefix):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def cross_origin(config: Config, prefix: str) -> list[Middleware]:
    """What lets scripts of ``CORS_ORIGINS`` call the API; nothing, at no cost, when there are none.

    No cookie is ever allowed with it: the API knows none, and a caller shows a token.
    """
    return [Middleware(CrossOrigin, prefix, config.cors_origins)] if config.cors_origins else []


def compression() -> Middleware:
    """Zstandard, Brotli or gzip for what is worth it. Events are left alone: each must arrive when it happens."""
    remove_compress_type("text/event-stream")
    return Middleware(CompressMiddleware, minimum_size=COMPRESS_FROM_BYTES)
