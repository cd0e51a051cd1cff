"""Rows of a file, as JSON lines or as CSV (RFC 4180): read as they arrive, written a batch at a time.

In CSV, a cell that a spreadsheet would run as a formula gets an apostrophe in front, which reading takes off again.
"""

import asyncio
import csv
import io
import json
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, NoReturn

from fastapi import Depends, Query
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import StreamingResponse

from fastapi_app.core.documentation import Documentation
from fastapi_app.core.errors import InvalidRows, UnsupportedMediaType, json_pointer
from fastapi_app.core.faults import faults_of
from fastapi_app.core.negotiation import preferred
from fastapi_app.core.statements import Row

MAXIMUM_LINE_BYTES = 64 * 1024
"""Of a row and the end of its line; a larger one is refused before it is read whole."""
MAXIMUM_COLUMNS = 100
"""Of a CSV. Each row can be wrong in each of them."""
MAXIMUM_NAME_LENGTH = 100
"""Characters of a column's name, which each fault in it repeats."""
MAXIMUM_ERRORS = 1000
"""Wrong things that are told of one file."""
BREATH_S = 0.005
"""Seconds of reading after which other requests get a turn. Rows are no measure: one can cost as much as a thousand."""
EMPTY_LINES_AT_ONCE = 1024
"""After which the clock is looked at."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
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
    """What is wrong with a file, by line: the first ``MAXIMUM_ERRORS`` faults, which are all that is told."""

    def __init__(self) -> None:
        self._errors: list[dict[str, Any]] = []

    @property
    def are_full(self) -> bool:
        """Whether nothing that is wrong on a later line would be told."""
        return len(self._errors) >= MAXIMUM_ERRORS

    def add(self, line: int, detail: str, pointer: str | None = None) -> None:
        """Note that something is wrong."""
        self._errors.append({"detail": detail, "line": line} | ({"pointer": pointer} if pointer else {}))
        if len(self._errors) == 2 * MAXIMUM_ERRORS:  # Seldom, because it sorts them.
            self._keep_first()

    def refuse(self, line: int, detail: str) -> NoReturn:
        """Note that the file is wrong from this line on. Raises InvalidRows."""
        self.add(line, detail)
        raise self._told()

    def raise_any(self) -> None:
        """Raise InvalidRows, with what was noted in the order of the lines, if anything was."""
        if self._errors:
            raise self._told()

    def once[T](
        self, rows: Sequence["Lined[T]"], value: Callable[[T], Any], detail: str, pointer: str
    ) -> dict[Any, int]:
        """Note each row whose value an earlier row has, whose ``{line}`` is in ``detail``; the line of each value."""
        lines = dict[Any, int]()
        for one in rows:
            if (first := lines.setdefault(value(one.row), one.line)) != one.line:
                self.add(one.line, detail.format(line=first), pointer)
        return lines

    def _told(self) -> InvalidRows:
        self._keep_first()
        return InvalidRows(self._errors)

    def _keep_first(self) -> None:
        self._errors.sort(key=lambda error: error["line"])
        del self._errors[MAXIMUM_ERRORS:]


async def read_rows[T: BaseModel](
    chunks: AsyncIterable[bytes], form: Format, schema: type[T], *, at_most: int, faults: Faults
) -> list[Lined[T]]:
    """The rows that are right; what is wrong with the others is added to ``faults``, until they are full.

    Raises:
        InvalidRows: there are more rows than ``at_most``, right or wrong; the rest was not read.
    """
    rows = list[Lined[T]]()
    count = 0
    records = _csv_records(chunks, faults) if form is Format.CSV else _json_lines(chunks, faults)
    names = await _column_names(records, faults) if form is Format.CSV else None
    async for line, record in records:
        count += 1
        if count > at_most:
            faults.refuse(line, f"There are more than {at_most} rows: send the rest in another request.")
        try:
            row = schema.model_validate_json(record) if names is None else schema.model_validate(_named(record, names))
            rows.append(Lined(line, row))
        except _Unreadable as error:
            faults.add(line, str(error))
        except ValidationError as error:
            for fault in faults_of(error):
                faults.add(line, fault["msg"], json_pointer(fault["loc"]))
        if faults.are_full:
            break  # A row further on cannot change what is told, and would only cost time.
    return rows


async def _lines(chunks: AsyncIterable[bytes], faults: Faults) -> AsyncIterator[tuple[int, bytes]]:
    """Each line that is not empty, without its end, and its number."""
    number, line = 1, b""
    breath_at = time.perf_counter() + BREATH_S
    async for chunk in chunks:
        for piece in io.BytesIO(chunk):  # A chunk can be the whole file, so its lines are not all held at once.
            if piece == b"\n" and not line and number % EMPTY_LINES_AT_ONCE:
                number += 1  # Such a line is the least that can be sent, so it must cost the least.
                continue
            line += piece
            if len(line) > MAXIMUM_LINE_BYTES:
                faults.refuse(number, f"The line is longer than {MAXIMUM_LINE_BYTES} bytes; the rest was not read.")
            if line.endswith(b"\n"):
                if line.strip():
                    yield number, line[:-1]
                number, line = number + 1, b""
            if time.perf_counter() > breath_at:
                await asyncio.sleep(0)
                breath_at = time.perf_counter() + BREATH_S
    if line.strip():
        yield number, line


async def _json_lines(chunks: AsyncIterable[bytes], faults: Faults) -> AsyncIterator[tuple[int, bytes]]:
    async for number, line in _lines(chunks, faults):
        yield number, line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line


async def _csv_records(chunks: AsyncIterable[bytes], faults: Faults) -> AsyncIterator[tuple[int, bytes]]:
    """Lines, put together again where a quoted cell spans several."""
    begun, lines, size, is_open = 0, list[bytes](), 0, False
    async for number, line in _lines(chunks, faults):
        begun = begun if lines else number
        lines.append(line)
        size += len(line) + 1
        is_open ^= line.count(b'"') % 2 == 1
        if not is_open:
            yield begun, b"\n".join(lines)
            lines, size = [], 0
        elif size > MAXIMUM_LINE_BYTES:
            break
    if lines:
        faults.refuse(begun, "A quotation mark is opened and never closed.")


async def _column_names(records: AsyncIterator[tuple[int, bytes]], faults: Faults) -> list[str]:
    """What the first record says. Raises InvalidRows: without the names, no row can be read."""
    first = await anext(records, None)
    if first is None:
        faults.refuse(1, "The first line must name the columns.")
    line, record = first
    try:
        names = _cells(record.removeprefix(_BYTE_ORDER_MARK))
    except _Unreadable as error:
        faults.refuse(line, str(error))
    if len(names) > MAXIMUM_COLUMNS:
        faults.refuse(line, f"There are more than {MAXIMUM_COLUMNS} columns.")
    if any(len(name) > MAXIMUM_NAME_LENGTH for name in names):
        faults.refuse(line, f"A column's name is longer than {MAXIMUM_NAME_LENGTH} characters.")
    if len(set(names)) < len(names):
        faults.refuse(line, "A column's name appears twice.")
    return names


class _Unreadable(Exception):
    """A record is no row; the text says why."""


def _cells(record: bytes) -> list[str]:
    try:
        rows = list(csv.reader(io.StringIO(record.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _Unreadable(f"The line is not CSV in UTF-8: {error}.") from error
    if len(rows) != 1:  # The row that a lone carriage return, or the quotation mark of 5" disk, hides must not be lost.
        raise _Unreadable("The line is not one row: quote what has line breaks, and double quotation marks in it.")
    return rows[0]


def _named(record: bytes, names: list[str]) -> dict[str, str]:
    cells = _cells(record)
    if len(cells) != len(names):
        raise _Unreadable(f"There are {len(cells)} cells under {len(names)} names.")
    return {name: _unescaped(cell) for name, cell in zip(names, cells, strict=True)}


def _unescaped(cell: str) -> str:
    return cell[1:] if _is_escaped_formula(cell) else cell


class RowsOf[T: BaseModel]:
    """A dependency: the rows of the file that is sent, and the faults found in it so far.

    ``example`` is a row as the documentation shows it.
    """

    def __init__(self, schema: type[T], *, at_most: int, example: Mapping[str, Any]) -> None:
        self._schema = schema
        self._at_most = at_most
        self._example = example

    async def __call__(self, request: Request) -> tuple[Sequence[Lined[T]], Faults]:
        faults = Faults()
        form = format_of_body(request)
        rows = await read_rows(request.stream(), form, self._schema, at_most=self._at_most, faults=faults)
        return rows, faults

    def documentation(self, _route: APIRoute) -> Documentation:
        """Returns the forms of the file, each with an example."""
        content = {
            media_type: {"schema": {"type": "string"}, "example": self._written(form)}
            for media_type, form in _FORMATS.items()
        }
        return Documentation(request_body={"required": True, "content": content})

    def _written(self, form: Format) -> str:
        if form is Format.JSONL:
            return f"{json.dumps(self._example)}\n"
        return _csv([list(self._example), list(self._example.values())]).decode().replace("\r\n", "\n")


# Writing

FILE: dict[str, Any] = {media_type: {"schema": {"type": "string"}} for media_type in _FORMATS}
"""The ``content`` of a response that is a file."""


async def _export_format(
    request: Request,
    wanted: Annotated[Format | None, Query(alias="format", description="Alternative to the Accept header.")] = None,
) -> Format:
    return wanted or format_to_send(request)


ExportFormat = Annotated[Format, Depends(_export_format)]
"""The form to export in: by the parameter ``format``, or else by ``Accept``."""


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

    def response(self, batches: AsyncIterable[Sequence[Row]], form: Format, name: str) -> StreamingResponse:
        """The file as a download that is called ``name`` and its form."""
        disposition = f'attachment; filename="{name}.{form}"'
        return StreamingResponse(
            self.write(batches, form), media_type=form.media_type, headers={"Content-Disposition": disposition}
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
