"""Content negotiation: whether a client takes what there is (RFC 9110, section 12.5.1)."""

from collections.abc import Iterator
from functools import lru_cache


@lru_cache(maxsize=256)
def accepts(accept: bytes, media_type: str) -> bool:
    """Whether an ``Accept`` header lets ``media_type`` through: by the most specific of its ranges, if not refused."""
    qualities = dict(_ranges(accept.decode("latin-1").lower()))
    for media_range in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if media_range in qualities:
            return qualities[media_range] > 0
    return False


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
