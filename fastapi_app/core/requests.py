"""What a request carries from the root: the lifespan's state, typed."""

from typing import TYPE_CHECKING, TypedDict

from starlette.requests import Request

if TYPE_CHECKING:  # Resources hold what itself is a dependency that reads a request.
    from fastapi_app.core.resources import Resources


class State(TypedDict):
    """The lifespan state: what the root opens, found by every request as ``request.state``."""

    resources: "Resources"


class AppRequest(Request[State]):
    """A request whose ``state`` is typed. FastAPI injects it where a parameter has this annotation."""
