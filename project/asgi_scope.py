"""Reading an ASGI scope as it came: Starlette would make an object first, which costs more than most of its readers."""

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first value of the header with this lower-case name."""
    for key, value in scope["headers"]:  # A dictionary would cost more, whether there are two or twenty.
        if key == name:
            return value  # type: ignore[no-any-return]
    return None


def route_path(scope: Scope) -> str:
    """The request's path without ``root_path``, which is a mount's, or what a proxy in front has for a prefix."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def is_below(scope: Scope, prefix: str) -> bool:
    """Whether the request's path is ``prefix`` or below it."""
    path = route_path(scope)
    return path == prefix or path.startswith(f"{prefix}/")
