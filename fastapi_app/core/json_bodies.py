"""JSON bodies: how deep one may nest and how much it may hold is known before any of it becomes an object.

Both are counted in C: in most bodies three characters are, and in the others what is left when the strings are taken
out. Valid JSON has as many members as it has commas and opening brackets outside of strings, or fewer.
"""

import json
import re
from itertools import accumulate
from typing import Any

from fastapi.exceptions import HTTPException

from project.http_limits import MAX_JSON_DEPTH, MAX_JSON_MEMBERS

_take_out_strings = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL).sub
"""A string without its end matches as well: an expression that gave up there would begin anew at each character."""
_STEPS = bytes.maketrans(b"{}[]", b"\2\0\2\0")
"""A bracket as the step it makes into the depth, plus 1."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))


def loads(body: bytes) -> Any:
    """What a body says.

    Raises:
        HTTPException: it nests deeper than ``MAX_JSON_DEPTH``, or has more members than ``MAX_JSON_MEMBERS``.
        ValueError: it is not JSON, as ``json.loads`` says it.
    """
    # What may be in a string is counted here, too, so this is never less than the depth or the number of members.
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_JSON_DEPTH:
        _refuse_beyond_bounds(body)
    return json.loads(body)


def _refuse_beyond_bounds(body: bytes) -> None:
    encoding = json.detect_encoding(body)
    if not encoding.startswith("utf-8"):
        body = body.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")
    structure = _take_out_strings(b"", body)
    if structure.count(b",") + structure.count(b"[") + structure.count(b"{") > MAX_JSON_MEMBERS:
        raise HTTPException(400, f"The body has more than {MAX_JSON_MEMBERS} members.")
    # A valid body has no more brackets than these. Of any other, json.loads tells what is wrong.
    steps = structure.translate(_STEPS, _NO_BRACKETS)[: 2 * MAX_JSON_MEMBERS]
    if max(accumulate(step - 1 for step in steps), default=0) > MAX_JSON_DEPTH:
        raise HTTPException(400, f"The body is nested deeper than {MAX_JSON_DEPTH} levels.")
