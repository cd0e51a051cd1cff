"""What Schemathesis cannot know from a schema: which keys are new, which version is present, how files are sent.

The caller's id is in the environment, as ``CALLER_ID``.
"""

import itertools
import os
import uuid
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, HookContext, SerializationContext

NOBODY = 2**62

# Top-level domains that are reserved (RFC 2606) are e-mail addresses by the format, and refused by the API. Nearly all
# are new, or nearly every POST would be a conflict.
_names = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), min_size=1, max_size=20)
schemathesis.openapi.format("email", st.builds("{}@{}.example.com".format, st.uuids(), _names))


@schemathesis.serializer("application/jsonl", "application/x-ndjson", "text/csv")
def as_text(_context: SerializationContext, value: Any) -> bytes:
    """What is to be sent, as text."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


def _is_key(value: Any) -> bool:
    """Whether it is a good one; what is not stays as it is, to be refused."""
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isascii() and value.isprintable()


_is_to_match = itertools.cycle([True, True, True, False])


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _options: dict[str, Any]) -> None:
    """Take new keys, let most conditions hold, and keep the caller from ending their own token, which 401 follows."""
    if _is_key(case.headers.get("Idempotency-Key")):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
    if str(case.headers.get("If-Match")).endswith('"') and next(_is_to_match):
        case.headers["If-Match"] = "*"
    if case.method in {"PATCH", "DELETE"} and str(case.path_parameters.get("user_id")) == os.environ["CALLER_ID"]:
        case.path_parameters["user_id"] = NOBODY
