"""Rows of a file, as JSON lines or as CSV (RFC 4180): read as they arrive, written a batch at a time.

In CSV, a cell that a spreadsheet would run as a formula gets an apostrophe in front, which reading takes off again.
"""

import asyncio
import csv
import io
import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import Request

from fastapi_app.core.errors import InvalidRows, UnsupportedMediaType, json_pointer
from fastapi_app.core.negotiation import preferred
from fastapi_app.core.statements import Row

MAXIMUM_LINE_BYTES = 64 * 1024
"""Of a row; a larger one is refused before it is read whole."""
MAXIMUM_ERRORS = 1000
"""Wrong things that are told of one file."""
BREATH_ROWS = 100
"""Rows after which other requests get a turn: about five milliseconds."""

_is_formula = re.compile(r"'*[=+\-@\t\r]").match
_is_escaped_formula = re.compile(r"'+[=+\-@\t\r]").match


class Format(StrEnum):
    """How rows are written."""

    JSONL = "jsonl"
    CSV = "csv"

    @property
    def media_type(self) -> str:
        return "text/csv; charset=utf-8" if self is Format.CSV else "application/jsonl"


_FORMATS = {"application/jsonl": Format.JSONL, "application/x-ndjson": Format.JSONL, "text/csv": Format.CSV}
MEDIA_TYPES = tuple(_FORMATS)


def format_of_body(request: Request) -> Format:
    """The form of the body. Raises UnsupportedMediaType."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _FORMATS:
        raise UnsupportedMediaType(f"Send one of {', '.join(_FORMATS)} as Content-Type.")
    return _FORMATS[media_type]


def format_to_send(request: Request) -> Format:
    """The form that ``Accept`` likes best, JSON lines when it is all the same. Raises NotAcceptable."""
    return _FORMATS[preferred(request.scope, MEDIA_TYPES)]


# Reading


@dataclass(frozen=True, slots=True)
class Lined[T]:
    """A row, and the line on which it begins, counted from 1."""

    line: int
    row: T


class Faults:
    """What is wrong with a file, by line."""

    def __init__(self) -> None:
        self._errors: list[dict[str, Any]] = []

    def add(self, line: int, detail: str, pointer: str | None = None) -> None:
        """Note that something is wrong; beyond ``MAXIMUM_ERRORS`` it is only counted."""
        self._errors.append({"detail": detail, "line": line} | ({"pointer": pointer} if pointer else {}))

    def raise_any(self) -> None:
        """Raise InvalidRows, with all that was noted in the order of the lines, if anything was."""
        if not self._errors:
            return
        in_order = sorted(self._errors, key=lambda error: error["line"])
        raise InvalidRows(in_order[:MAXIMUM_ERRORS])


async def read_rows[T: BaseModel](
    chunks: AsyncIterable[bytes], form: Format, schema: type[T], *, at_most: int, faults: Faults
) -> list[Lined[T]]:
    """The rows that are right; what is wrong with the others is added to ``faults``.

    Raises:
        InvalidRows: there are more rows than ``at_most``; the rest was not read.
    """
    rows = list[Lined[T]]()
    count = 0
    async for line, values in _json_lines(chunks, faults) if form is Format.JSONL else _csv_rows(chunks, faults):
        count += 1
        if count > at_most:
            faults.add(line, f"There are more than {at_most} rows: send the rest in another request.")
            faults.raise_any()
        try:
            row = schema.model_validate_json(values) if isinstance(values, bytes) else schema.model_validate(values)
            rows.append(Lined(line, row))
        except ValidationError as error:
            for fault in error.errors(include_url=False, include_input=False):
                faults.add(line, fault["msg"], json_pointer(fault["loc"]))
        if count % BREATH_ROWS == 0:
            await asyncio.sleep(0)
    return rows


async def _lines(chunks: AsyncIterable[bytes], faults: Faults) -> AsyncIterator[tuple[int, bytes]]:
    """Each line that is not empty, without its end, and its number."""
    number, rest = 0, b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number += 1
            if line.strip():
                yield number, line
        if len(rest) > MAXIMUM_LINE_BYTES:
            faults.add(number + 1, f"The line is longer than {MAXIMUM_LINE_BYTES} bytes; the rest was not read.")
            faults.raise_any()
    if rest.strip():
        yield number + 1, rest


async def _json_lines(chunks: AsyncIterable[bytes], faults: Faults) -> AsyncIterator[tuple[int, bytes]]:
    async for number, line in _lines(chunks, faults):
        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


async def _csv_rows(chunks: AsyncIterable[bytes], faults: Faults) -> AsyncIterator[tuple[int, dict[str, str]]]:
    names: list[str] | None = None
    async for number, record in _csv_records(chunks, faults):
        try:
            text = record.decode("utf-8-sig" if names is None else "utf-8")
            cells = next(csv.reader(io.StringIO(text, newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error, StopIteration) as error:
            faults.add(number, f"The line is not CSV in UTF-8: {error}.")
            if names is None:
                faults.raise_any()
            continue
        if names is None:
            names = cells
            if len(set(names)) < len(names):
                faults.add(number, "A column's name appears twice.")
                faults.raise_any()
        elif len(cells) != len(names):
            faults.add(number, f"There are {len(cells)} cells under {len(names)} names.")
        else:
            yield number, {name: _unescaped(cell) for name, cell in zip(names, cells, strict=True)}
    if names is None:
        faults.add(1, "The first line must name the columns.")
        faults.raise_any()


async def _csv_records(chunks: AsyncIterable[bytes], faults: Faults) -> AsyncIterator[tuple[int, bytes]]:
    """Lines, put together again where a quoted cell spans several."""
    begun, record = 0, b""
    async for number, line in _lines(chunks, faults):
        begun, record = (begun, record + b"\n" + line) if record else (number, line)
        if record.count(b'"') % 2 == 0:
            yield begun, record
            record = b""
        elif len(record) > MAXIMUM_LINE_BYTES:
            break
    if record:
        faults.add(begun, "A quotation mark is opened and never closed.")
        faults.raise_any()


def _unescaped(cell: str) -> str:
    return cell[1:] if _is_escaped_formula(cell) else cell


# Writing


class RowWriter:
    """Rows as a schema shows them, in one of the forms."""

    def __init__(self, schema: type) -> None:
        self._shown = TypeAdapter[list[Any]](list[schema])  # type: ignore[valid-type]
        self._names = list(TypeAdapter[Any](schema).json_schema(mode="serialization")["properties"])

    async def write(self, batches: AsyncIterable[Sequence[Row]], form: Format) -> AsyncIterator[bytes]:
        """The file, a batch at a time."""
        if form is Format.CSV:
            yield _csv([self._names])
        async for batch in batches:
            shown = self._shown.dump_python(self._shown.validate_python(batch), mode="json")
            if form is Format.CSV:
                yield _csv([[_escaped(_cell(row[name])) for name in self._names] for row in shown])
            else:
                yield b"".join(
                    b"%s\n" % json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() for row in shown
                )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _escaped(cell: str) -> str:
    return f"'{cell}" if _is_formula(cell) else cell


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
