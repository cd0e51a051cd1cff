"""What a request carries: the lifespan's state, typed; a bounded JSON body; and what is asked before a body is read."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypedDict

from starlette.requests import HTTPConnection, Request

from fastapi_app.core.json_bodies import loads

if TYPE_CHECKING:  # Resources hold what itself is a dependency that reads a request.
    from fastapi_app.core.resources import Resources


class State(TypedDict):
    """The lifespan state: what the root opens, found by every request of both halves."""

    resources: "Resources"


def resources_of(request: HTTPConnection) -> "Resources":
    """What the root opened, typed; read as the scope has it, for which Starlette would make an object."""
    state: State = request.scope["state"]
    return state["resources"]


class JsonRequest(Request):
    """A request whose JSON body is read within bounds."""

    async def json(self) -> Any:
        """The body. Raises what ``json_bodies.loads`` raises."""
        if not hasattr(self, "_json"):
            self._json = loads(await self.body())
        return self._json


class Guard(ABC):
    """A dependency that decides by the head of a request alone whether the request may go on.

    All guards of a route run before its body is read, so nobody makes the service read or parse a body who may not send
    it. A route that FastAPI serves asks a guard twice, so what it does must bear repeating.
    """

    @abstractmethod
    async def __call__(self, request: Request) -> Any:
        """What the guard knows of the caller. Raises what refuses the request."""
