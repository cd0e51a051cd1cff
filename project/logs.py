"""How a log line looks, whatever a caller sent: no caller can write a line of their own, and no secret is in a line.

Every record of the process is formatted here, uvicorn's and Django's included (``LOGGING`` in ``project/settings.py``).
"""

import logging
import re
from types import TracebackType

CONTINUED = "\n    "
"""What a further line of a record begins with. The first line of a record never does."""
MASKED = "***"
MAX_LINE_LENGTH = 16 * 1024
"""Characters of a line that are written. A server may log a request before anything has bounded it."""
MOST_ENCODED = 4
"""How often a parameter's name may be percent-encoded, as in an address within an address, and still be recognized."""

_encoded_unreserved = re.compile(r"%(?:25)*(2[DE]|3\d|4[1-9A-F]|5[\dAF]|6[1-9A-F]|7[\dAE])", re.IGNORECASE)
"""A letter, digit, ``-``, ``.``, ``_`` or ``~``, which mean the same encoded (RFC 3986, section 2.3)."""
_IN_SECRET_NAMES = ("code", "state", "nonce", "token", "secret", "passw", "assertion", "api_key", "apikey")
_secret_parameter = re.compile(
    r"""
    (?=[acdnpstu])  # Most places are no beginning, which this tells at once.
    (
      (?: (?<![\w.-]) | (?<=%[\da-f]{2}) | (?<=25[\da-f]{2}) )            # The name begins here, or ...
      (?: code | user_code | device_code | code_verifier | state | nonce )
    |
      (?: token | secret | passw | assertion | api_?key ) [\w.\[\]-]{0,40}  # ... it has this somewhere in it.
    )
    ( = | %(?:25)*3d )
    [^&\s]*
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""A parameter whose value is for its receiver alone: OAuth's, OpenID Connect's (``id_token_hint``), and a form's."""


class LineFormatter(logging.Formatter):
    """Formats a record without secrets, and so that none of its lines looks like another record.

    A message with arguments is one line. A message without is its developer's text and may have several lines, as a
    traceback does: further lines are indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # Where formatters keep a traceback for each other: neither may take the other's.
        try:
            return super().format(record)
        finally:
            record.exc_text = None

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  The base class's name.
        record.message = safe_line(record.message) if record.args else safe_lines(record.message.rstrip())
        return super().formatMessage(record)

    def formatException(  # noqa: N802  The base class's name.
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        return CONTINUED.lstrip("\n") + safe_lines(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802  The base class's name.
        return CONTINUED.lstrip("\n") + safe_lines(super().formatStack(stack_info))


def safe_lines(text: str) -> str:
    """``text``, with its further lines indented and each line safe."""
    return CONTINUED.join(safe_line(line) for line in text.split("\n"))


def safe_line(text: str) -> str:
    """``text`` on one line, without what moves a cursor, changes the direction of text or is a secret parameter."""
    if len(text) > MAX_LINE_LENGTH:
        text = f"{text[:MAX_LINE_LENGTH]}... ({len(text)} characters)"
    return without_secrets(printable(text))


def printable(text: str) -> str:
    r"""``text``, or as Python writes it when a character of it does not print: ``\n``, ``\x1b``, ``\u2028``."""
    return text if text.isprintable() else repr(text)[1:-1]


def without_secrets(text: str) -> str:
    """``text`` with the values of secret parameters masked, in queries and in addresses that a parameter's value has.

    A value ends with ``&`` or a space. What follows a secret of an address within an address is masked with it.
    """
    if "%" in text:
        text = _with_plain_names(text)
    lower = text.lower()
    if not any(word in lower for word in _IN_SECRET_NAMES):  # So most lines cost a microsecond.
        return text
    return _secret_parameter.sub(rf"\1\2{MASKED}", text)


def _with_plain_names(text: str) -> str:
    for _ in range(MOST_ENCODED):
        if (plain := _encoded_unreserved.sub(_decoded, text)) == text:
            break
        text = plain
    return text


def _decoded(encoded: re.Match[str]) -> str:
    return chr(int(encoded[1], 16))
