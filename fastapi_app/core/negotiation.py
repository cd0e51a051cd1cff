"""Content negotiation: which of the forms that there are a client likes best (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from starlette.types import Scope

from fastapi_app.core.errors import NotAcceptable
from project.http_limits import MAX_CACHED_TEXT, MAX_LIST_PARTS

_find_weight = re.compile(rb";[ \t]*q=([^;]*)").search


def preferred(scope: Scope, media_types: Sequence[str]) -> str:
    """The one of ``media_types`` that the request's ``Accept`` likes best; the first, when it is all the same.

    Raises:
        NotAcceptable: it likes none.
    """
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept") or b"*/*"
    weights = _known_weights(accept) if len(accept) <= MAX_CACHED_TEXT else _weights(accept)
    best = max(media_types, key=lambda media_type: _weight_of(media_type, weights))
    if _weight_of(best, weights) <= 0:
        raise NotAcceptable(f"This address has {', '.join(media_types)}.")
    return best


def quality(accept: bytes, media_type: str) -> float:
    """How much an ``Accept`` header likes ``media_type``, by the most specific of its ranges; 0 is not at all."""
    return _weight_of(media_type, _weights(accept))


def _weight_of(media_type: str, weights: Mapping[bytes, float]) -> float:
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    return next((weights[known] for name in ranges if (known := name.encode()) in weights), 0)


def _weights(accept: bytes) -> Mapping[bytes, float]:
    """The weight of each range; those after the first ``MAX_LIST_PARTS`` are ignored, as no client means them."""
    weights: dict[bytes, float] = {}
    for part in accept.lower().split(b",", MAX_LIST_PARTS)[:MAX_LIST_PARTS]:
        weight = _find_weight(part)
        weights[part.partition(b";")[0].strip()] = 1.0 if weight is None else _number(weight[1])
    return weights


_known_weights = lru_cache(maxsize=256)(_weights)
"""``_weights`` of short headers, which most clients repeat in each request."""


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0
