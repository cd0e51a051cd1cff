"""Faults of a request, as pydantic finds them: so many are listed, and a request with more costs no more."""

from typing import Any

from fastapi.dependencies.models import Dependant
from pydantic import ValidationError

from project.http_limits import MAX_FAULTS

_MAX_WRITTEN = 10 * MAX_FAULTS
"""Faults that are written out at all: pydantic writes all of an error's faults, or none."""

type Place = tuple[int | str, ...]


def faults_of(error: ValidationError, place: Place = ()) -> list[dict[str, Any]]:
    """The first faults, each below ``place``; of more than anybody would read, only how many there are."""
    if error.error_count() > _MAX_WRITTEN:
        text = f"There are {error.error_count()} faults, which are too many to list."
        return [{"type": "too_many_faults", "loc": place, "msg": text}]
    found = error.errors(include_url=False, include_input=False)[:MAX_FAULTS]
    return [{**fault, "loc": (*place, *fault["loc"])} for fault in found]


def bound_faults(dependant: Dependant) -> None:
    """Bound what FastAPI tells of the bodies that a route reads, on whichever way the route is served."""
    fields: list[Any] = dependant.body_params
    for field in fields:
        field.validate = _Validation(field)
    for dependency in dependant.dependencies:
        bound_faults(dependency)


class _Validation:
    """What FastAPI's ``ModelField.validate`` does, but for how many faults it writes out."""

    def __init__(self, field: Any) -> None:
        self._adapter = field._type_adapter  # noqa: SLF001  As FastAPI's own method does.

    def __call__(self, value: Any, _values: Any = None, *, loc: Place = ()) -> tuple[Any, list[dict[str, Any]]]:
        try:
            return self._adapter.validate_python(value, from_attributes=True), []
        except ValidationError as error:
            return None, faults_of(error, loc)
