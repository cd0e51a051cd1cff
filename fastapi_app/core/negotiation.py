"""Content negotiation: which of the forms that there are a client likes best (RFC 9110, section 12.5.1)."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from starlette.types import Scope

from fastapi_app.core.errors import NotAcceptable


def preferred(scope: Scope, media_types: Sequence[str]) -> str:
    """The one of ``media_types`` that the request's ``Accept`` likes best; the first, when it is all the same.

    Raises:
        NotAcceptable: it likes none.
    """
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept") or b"*/*"
    best = max(media_types, key=lambda media_type: quality(accept, media_type))
    if quality(accept, best) <= 0:
        raise NotAcceptable(f"This address has {', '.join(media_types)}.")
    return best


@lru_cache(maxsize=256)
def quality(accept: bytes, media_type: str) -> float:
    """How much an ``Accept`` header likes ``media_type``, by the most specific of its ranges; 0 is not at all."""
    qualities = dict(_ranges(accept.decode("latin-1").lower()))
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    return next((qualities[media_range] for media_range in ranges if media_range in qualities), 0)


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for part in accept.split(","):
        media_range, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((value for parameter in parameters if (value := parameter.removeprefix("q=")) != parameter), "1")
        yield media_range, _number(weight)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0
