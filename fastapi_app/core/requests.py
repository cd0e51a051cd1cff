"""What a request carries from the root: the lifespan's state, typed."""

from typing import TYPE_CHECKING, TypedDict

from starlette.requests import HTTPConnection

if TYPE_CHECKING:  # Resources hold what itself is a dependency that reads a request.
    from fastapi_app.core.resources import Resources


class State(TypedDict):
    """The lifespan state: what the root opens, found by every request of both halves."""

    resources: "Resources"


def resources_of(request: HTTPConnection) -> "Resources":
    """What the root opened, typed; read as the scope has it, for which Starlette would make an object."""
    state: State = request.scope["state"]
    return state["resources"]
