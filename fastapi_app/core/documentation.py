"""What dependencies say about themselves in the OpenAPI document, so that no route repeats it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from fastapi_app.core.problems import Responses, merged


@dataclass(frozen=True, slots=True)
class Documentation:
    """Parameters, body and responses of a route, as OpenAPI has them."""

    parameters: Sequence[Mapping[str, Any]] = ()
    responses: Responses = field(default_factory=dict)
    request_body: Mapping[str, Any] | None = None

    def added_to(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the ``openapi_extra`` of a route together with the parameters and the body."""
        body = {} if self.request_body is None else {"requestBody": self.request_body}
        added = {**body, **extra}
        if self.parameters:
            added["parameters"] = [*extra.get("parameters", ()), *self.parameters]
        return added


@runtime_checkable
class Documented(Protocol):
    """A dependency that reads a header or a query by itself, or adds to a response."""

    def documentation(self, route: APIRoute) -> Documentation:
        """Returns what the dependency adds to ``route``."""
        ...


def documentation_of(route: APIRoute) -> Documentation:
    """Returns what all dependencies of a route, and those that they need, add to it."""
    parameters, body = list[Mapping[str, Any]](), None
    responses: Responses = {}
    for dependant in dependants(route.dependant):
        if isinstance(dependant.call, Documented):
            found = dependant.call.documentation(route)
            parameters += [one for one in found.parameters if one not in parameters]
            responses = merged(responses, found.responses)
            body = found.request_body or body
    return Documentation(parameters, responses, body)


def dependants(dependant: Dependant) -> Iterator[Dependant]:
    """Returns a dependency and all that it needs."""
    yield dependant
    for dependency in dependant.dependencies:
        yield from dependants(dependency)
