"""Routes that are served directly: what FastAPI would do for them, without what it prepares for other kinds of route.

For every request FastAPI opens three exit stacks, walks the tree of dependencies, and asks of each what kind of
callable it is. For a route whose dependencies are coroutines and whose body, if it has one, is JSON, all of that is
known beforehand, and is half of what such a request costs (docs/decisions/0007-direct-routes.md).
"""

import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import isclass, iscoroutinefunction, unwrap
from typing import Any

from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_validation_alias, request_params_to_args
from fastapi.exceptions import HTTPException, RequestValidationError, ResponseValidationError
from fastapi.params import Body
from fastapi.routing import APIRoute
from fastapi.utils import get_path_param_names, is_body_allowed_for_status_code
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fastapi_app.core.documentation import dependants
from fastapi_app.core.faults import bound_faults
from fastapi_app.core.requests import Guard, JsonRequest
from fastapi_app.core.streams import placed
from project.asgi_scope import header

_SERIALIZATION = (
    "response_model_include",
    "response_model_exclude",
    "response_model_exclude_unset",
    "response_model_exclude_defaults",
    "response_model_exclude_none",
)
_FAILED = object()
"""In place of a dependency's value when its parameters were not valid."""


@dataclass(frozen=True)
class _Call:
    """A dependency, or at last the endpoint itself: what to await, and where its arguments come from."""

    function: Any
    results: tuple[tuple[str, int], ...]
    """Names of parameters, and the earlier calls whose values they take."""
    needs: tuple[int, ...]
    """All the calls that come first, those included whose value nobody takes."""
    body: tuple[str, Any] | None
    """The parameter that is the request's body, and FastAPI's field."""
    path: tuple[tuple[str, str, Any], ...]
    """Parameters from the path, which has one value for each: the name, the name in the path, FastAPI's field."""
    parameters: tuple[tuple[list[Any], Callable[[Request], Any]], ...]
    """FastAPI's other fields, and which part of a request they are read from."""
    request_name: str | None
    response_name: str | None

    @cached_property
    def reads(self) -> bool:
        """Whether any argument is read from the request."""
        return bool(self.path or self.parameters or self.body)

    def read(self, request: Request, body: Any, arguments: dict[str, Any]) -> Sequence[Any]:
        """Add what is read from the request to ``arguments``; what is wrong with it."""
        faults: list[Any] = []
        for name, alias, field in self.path:
            arguments[name], wrong = field.validate(request.path_params[alias], {}, loc=("path", alias))
            faults.extend(wrong)
        for fields, part in self.parameters:
            values, wrong = request_params_to_args(fields, part(request))
            arguments.update(values)
            faults.extend(wrong)
        if self.body is not None:
            name, field = self.body
            arguments[name], wrong = field.validate(body, {}, loc=("body",))
            faults.extend(wrong)
        return faults


class DirectRoute(APIRoute):
    """A route that can serve plain requests itself, which ``DirectApi`` lets it; every other is FastAPI's.

    Whether a route is plain is decided once, when it is made: no ``yield``, no plain ``def``, a response model, no body
    but one of JSON. A body that is not announced as JSON, or not announced at all, is FastAPI's to judge. While
    ``dependency_overrides`` are set, as tests do, FastAPI serves them all.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        bound_faults(self.dependant)
        self._calls: list[_Call] = []
        self.is_direct = self._is_plain()
        if self.is_direct:
            known: dict[Any, int] = {}
            for guard in self._guards:
                _add_calls(guard, self._calls, known)
            count = len(self._calls)
            _add_calls(self.dependant, self._calls, known)
            self._guarding, self._following = self._calls[:count], self._calls[count:]
            self._injects_response = any(call.response_name for call in self._calls)

    @cached_property
    def _guards(self) -> list[Dependant]:
        """What must let a request in before its body is read, each once."""
        found = (dependant for dependant in dependants(self.dependant) if isinstance(dependant.call, Guard))
        return list({dependant.call: dependant for dependant in found}.values())

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, behind the route's guards, with a bounded body and a place for what it streams."""
        answer = super().get_route_handler()
        guards: list[Any] = [guard.call for guard in self._guards]

        async def answer_guarded(request: Request) -> Response:
            overrides = getattr(self.dependency_overrides_provider, "dependency_overrides", None) or ()
            for guard in guards:
                if guard not in overrides:
                    await guard(request)
            bounded = JsonRequest(request.scope, request.receive, request._send)  # noqa: SLF001  It has no other name.
            return placed(await answer(bounded))

        return answer_guarded

    def _is_plain(self) -> bool:
        return (
            self.response_field is not None
            and isinstance(self.response_class, DefaultPlaceholder)
            and self._has_no_body_but_json()
            and self.max_body_size is None
            and self.response_model_by_alias
            and not any(getattr(self, name) for name in _SERIALIZATION)
            and _is_plain(self.dependant)
        )

    def _has_no_body_but_json(self) -> bool:
        # Of several parameters, or an embedded one, FastAPI makes a field that is none of them.
        return self.body_field is None or (
            self.body_field in self.dependant.body_params and type(self.body_field.field_info) is Body
        )

    def takes(self, scope: Scope) -> bool:
        """Whether this request is to be served directly, and not as FastAPI does."""
        return (
            self.is_direct
            and not getattr(self.dependency_overrides_provider, "dependency_overrides", None)
            and (self.body_field is None or _has_json(scope))
        )

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that the route takes. Raises what its dependencies and its endpoint raise."""
        request = JsonRequest(scope, receive, send)
        injected = _empty_response() if self._injects_response else None
        admitted = [await call.function(request) for call in self._guarding]
        body = None if self.body_field is None else await _read_json(request)
        value = await self._value(request, injected, body, admitted)
        if isinstance(value, Response):
            await placed(value)(scope, receive, send)
            return
        answer = self._json(value)
        status = self.status_code or 200
        headers = [(b"content-length", b"%d" % len(answer)), (b"content-type", b"application/json")]
        if injected is not None:
            status = injected.status_code or status
            if not is_body_allowed_for_status_code(status):
                # Nor is a length: a client reads no body, and would take one for the beginning of the next response.
                answer, headers = b"", headers[1:]
            headers += injected.raw_headers
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _value(self, request: Request, response: Response | None, body: Any, values: list[Any]) -> Any:
        errors: list[Any] = []
        for call in self._following:
            arguments = {name: values[index] for name, index in call.results}
            faults = call.read(request, body, arguments) if call.reads else ()
            if faults:
                errors.extend(faults)
            if errors and (faults or call is self._calls[-1] or any(values[index] is _FAILED for index in call.needs)):
                values.append(_FAILED)
                continue
            if call.request_name is not None:
                arguments[call.request_name] = request
            if call.response_name is not None:
                arguments[call.response_name] = response
            values.append(await call.function(**arguments))
        if errors:
            raise RequestValidationError(errors, body=body)
        return values[-1]

    def _json(self, value: Any) -> bytes:
        assert self.response_field is not None  # noqa: S101  Or the route would not be plain.
        answer, errors = self.response_field.validate(value, {}, loc=("response",))
        if errors:
            raise ResponseValidationError(errors=errors, body=value)
        return self.response_field.serialize_json(answer)


def _has_json(scope: Scope) -> bool:
    is_empty = not (header(scope, b"content-length") or b"0").strip(b"0")
    return not is_empty and (header(scope, b"content-type") or b"").partition(b";")[0] == b"application/json"


async def _read_json(request: Request) -> Any:
    """The body, and what FastAPI says of one that cannot be read. Raises HTTPException: it is beyond the bounds."""
    try:
        return await request.json()
    except json.JSONDecodeError as error:
        fault = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error", "input": {}}
        raise RequestValidationError([{**fault, "ctx": {"error": error.msg}}], body=error.doc) from error
    except (ClientDisconnect, ValueError, RecursionError) as error:
        # A ValueError is said of text in another encoding, and of a number with more digits than Python reads.
        raise HTTPException(400, "There was an error parsing the body") from error


def _empty_response() -> Response:
    """What a parameter of type ``Response`` is given: its headers join the answer's, its status replaces it."""
    response = Response.__new__(Response)  # Its constructor makes headers, which would only be taken out again.
    response.raw_headers, response.body, response.background = [], b"", None
    response.status_code = None  # type: ignore[assignment]  # As FastAPI says that nobody has set it.
    return response


def _is_plain(dependant: Dependant) -> bool:
    return (
        _is_coroutine(dependant.call)
        and dependant.use_cache
        and dependant.concurrency is None
        and not (dependant.own_oauth_scopes or dependant.parent_oauth_scopes or dependant.security_scopes_param_name)
        and not (dependant.background_tasks_param_name or dependant.http_connection_param_name)
        and not dependant.websocket_param_name
        and _has_its_parameters_in_path(dependant)
        and all(map(_is_plain, dependant.dependencies))
    )


def _has_its_parameters_in_path(dependant: Dependant) -> bool:
    # Of the others a mount around the API may have some, and FastAPI says of the rest that they are missing.
    names = get_path_param_names(dependant.path or "")
    return all(get_validation_alias(field) in names for field in dependant.path_params)


def _is_coroutine(function: Any) -> bool:
    function = unwrap(function)
    if isclass(function):
        return False  # Calling it makes an instance, whether or not calling that gives a coroutine.
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _add_calls(dependant: Dependant, calls: list[_Call], known: dict[Any, int]) -> int:
    """Add the calls that ``dependant`` needs, each once, and then its own; return the place of that."""
    places = [(sub.name, _add_calls(sub, calls, known)) for sub in dependant.dependencies]
    key = dependant.call, dependant.scope
    if key not in known:
        calls.append(
            _Call(
                function=dependant.call,
                results=tuple((name, place) for name, place in places if name is not None),
                needs=tuple(place for _name, place in places),
                body=next(((field.name, field) for field in dependant.body_params), None),
                path=tuple((field.name, get_validation_alias(field), field) for field in dependant.path_params),
                parameters=tuple((fields, part) for fields, part in _parameters(dependant) if fields),
                request_name=dependant.request_param_name,
                response_name=dependant.response_param_name,
            )
        )
        known[key] = len(calls) - 1
    return known[key]


def _parameters(dependant: Dependant) -> list[tuple[list[Any], Callable[[Request], Any]]]:
    return [
        (dependant.query_params, lambda request: request.query_params),
        (dependant.header_params, lambda request: request.headers),
        (dependant.cookie_params, lambda request: request.cookies),
    ]
