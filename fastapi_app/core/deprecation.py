"""Saying in time that a route, or a version, will go: headers for programs, marks in the document for people.

A route: ``@router.get(..., openapi_extra=deprecated(Deprecation(...)))``; a version: ``Version(deprecation=...)``.
"""

import datetime
from collections.abc import Awaitable
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SINCE, SUNSET, GUIDE = "x-deprecated-since", "x-sunset", "x-deprecation-guide"
"""Where an operation of the OpenAPI document says it."""


@dataclass(frozen=True, slots=True)
class Deprecation:
    """From when something should not be used any more, when it stops answering, and where to read what to do."""

    since: datetime.datetime
    sunset: datetime.datetime
    guide: str

    def headers(self) -> list[tuple[bytes, bytes]]:
        """``Deprecation`` (RFC 9745), ``Sunset`` (RFC 8594) and the ``Link`` to the guide of both."""
        link = f'<{self.guide}>; rel="deprecation"; type="text/html", <{self.guide}>; rel="sunset"; type="text/html"'
        return [
            (b"deprecation", f"@{int(self.since.timestamp())}".encode()),
            (b"sunset", format_datetime(self.sunset.astimezone(datetime.UTC), usegmt=True).encode()),
            (b"link", link.encode()),
        ]


def deprecated(deprecation: Deprecation) -> dict[str, Any]:
    """``openapi_extra=`` of a route that is to go: the document then says so, and so does each of its responses."""
    return {
        "deprecated": True,
        SINCE: deprecation.since.isoformat(),
        SUNSET: deprecation.sunset.isoformat(),
        GUIDE: deprecation.guide,
    }


def deprecation_of(openapi_extra: dict[str, Any] | None) -> Deprecation | None:
    """What ``deprecated`` was told, if it was."""
    if not openapi_extra or SUNSET not in openapi_extra:
        return None
    since, sunset = (datetime.datetime.fromisoformat(openapi_extra[name]) for name in (SINCE, SUNSET))
    return Deprecation(since, sunset, openapi_extra[GUIDE])


class DeprecationHeaders:
    """Middleware: that a route will go is said in each of its answers, errors included.

    It asks the route that the router found, whose ``deprecation_headers`` they are.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        def send_with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                headers = getattr(scope.get("route"), "deprecation_headers", ())
                message["headers"] = [*message["headers"], *headers]
            return send(message)

        return self.app(scope, receive, send_with_headers)
