"""Files of rows: whatever is in them, reading one leaves the others their turn, and keeps little."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from pydantic import BaseModel, ConfigDict

from fastapi_app.core.errors import InvalidRows
from fastapi_app.core.rows import (
    MAXIMUM_COLUMNS,
    MAXIMUM_ERRORS,
    MAXIMUM_LINE_BYTES,
    MAXIMUM_NAME_LENGTH,
    Faults,
    Format,
    Lined,
    read_rows,
)
from project.http_limits import MAX_FAULTS

MB = 1024 * 1024
MANY = 10_000


class Person(BaseModel):
    """What a row is."""

    model_config = ConfigDict(extra="forbid")

    email: str
    name: str = ""


async def read(
    file: bytes, form: Format = Format.CSV, *, at_most: int = MANY, chunk_bytes: int = MB, faults: Faults | None = None
) -> list[Lined[Person]]:
    """The rows of a file that arrives in chunks."""

    async def chunks() -> AsyncIterator[bytes]:
        for begin in range(0, len(file), chunk_bytes):
            yield file[begin : begin + chunk_bytes]

    return await read_rows(chunks(), form, Person, at_most=at_most, faults=Faults() if faults is None else faults)


async def wrong_lines(file: bytes, form: Format = Format.CSV, *, at_most: int = MANY) -> list[int]:
    """The lines that are told to be wrong."""
    faults = Faults()
    with pytest.raises(InvalidRows) as refused:
        await read(file, form, at_most=at_most, faults=faults)
        faults.raise_any()
    return [error["line"] for error in refused.value.errors or []]


class Heartbeat:
    """Somebody else on the event loop, who wants a turn every millisecond."""

    def __init__(self) -> None:
        self.beats = 0
        self.longest_pause_s = 0.0

    async def beat(self) -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest_pause_s = max(self.longest_pause_s, time.perf_counter() - begun)
            self.beats += 1


@asynccontextmanager
async def a_heart_beats() -> AsyncIterator[Heartbeat]:
    heart = Heartbeat()
    beating = asyncio.create_task(heart.beat())
    await asyncio.sleep(0)
    yield heart
    await asyncio.sleep(0.01)
    beating.cancel()


HOSTILE = {
    "rows of one cell": (b"email,name\n" + b"x\n" * (2 * MB), Format.CSV),
    "rows of thousands of cells": (
        ",".join(f"c{number}" for number in range(8000)).encode() + (b"\n" + b"," * 7999) * 512,
        Format.CSV,
    ),
    "thousands of lines inside quotes": (b"email,name\n" + (b'a@b.de,"' + b"x\n" * 31_000 + b'"\n') * 24, Format.CSV),
    "rows of thousands of unknown members": (
        (b'{"email": ""' + b"".join(b',"%d":0' % number for number in range(6000)) + b"}\n") * 80,
        Format.JSONL,
    ),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("chunk_bytes", [64 * 1024, 10 * MB], ids=["in pieces", "at once"])
@pytest.mark.parametrize("what", HOSTILE)
async def test_read__hostile_file__leaves_others_their_turn_and_keeps_few_faults(what: str, chunk_bytes: int) -> None:
    file, form = HOSTILE[what]
    faults = Faults()

    async with a_heart_beats() as heart:
        with suppress(InvalidRows):
            await read(file, form, chunk_bytes=chunk_bytes, faults=faults)

    assert heart.longest_pause_s < 1
    assert len(faults._errors) < 2 * MAXIMUM_ERRORS


@pytest.mark.asyncio
@pytest.mark.parametrize("form", Format)
async def test_read__millions_of_empty_lines__leaves_others_their_turn(form: Format) -> None:
    file = b"email\n" if form is Format.CSV else b""

    async with a_heart_beats() as heart:
        assert await read(file + b"\n" * (8 * MB), form, chunk_bytes=10 * MB) == []

    assert heart.beats > 20
    assert heart.longest_pause_s < 1


@pytest.mark.asyncio
async def test_read__rows_that_are_no_rows__count_as_rows_and_empty_lines_do_not() -> None:
    file = b"email,name\na,\n\nonly one cell\nb,\n"

    assert await wrong_lines(file, at_most=3) == [4]
    assert await wrong_lines(file + b"c,\n", at_most=3) == [4, 6]


@pytest.mark.asyncio
async def test_read__chunks_however_small__are_the_same_rows() -> None:
    file = b'\xef\xbb\xbfemail,name\r\na,"one\n\ntwo ""2"""\r\nb,c'

    for chunk_bytes in (1, 7, MB):
        rows = await read(file, chunk_bytes=chunk_bytes)
        assert [(one.line, one.row.email, one.row.name) for one in rows] == [(2, "a", 'one\ntwo "2"'), (5, "b", "c")]


@pytest.mark.asyncio
@pytest.mark.parametrize("end", [b"", b"\n", b"\n{}\n"])
async def test_read__line_that_is_too_long__is_refused_wherever_it_ends(end: bytes) -> None:
    assert await wrong_lines(b'{"email": "a"}\n' + b"x" * (MAXIMUM_LINE_BYTES + 1) + end, Format.JSONL) == [2]


@pytest.mark.asyncio
async def test_read__columns__are_as_many_and_as_long_as_allowed_and_no_more() -> None:
    names = [f"{number:0{MAXIMUM_NAME_LENGTH}}" for number in range(MAXIMUM_COLUMNS)]
    row = b"\n" + b"," * (MAXIMUM_COLUMNS - 1)

    # The row lacks the address, and has everything else: that is one fault more than is listed of a row.
    assert await wrong_lines(",".join(names).encode() + row) == [2] * MAX_FAULTS
    assert await wrong_lines(",".join([*names, "one more"]).encode() + row + b",") == [1]
    assert await wrong_lines(",".join([*names[1:], names[0] + "0"]).encode() + row) == [1]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "rows", [b'a@example.com,5" disk\nb@example.com,6" disk\n', b"a@example.com,Ann\rb@example.com,Bob\n"]
)
async def test_read__row_that_hides_in_another__is_not_lost(rows: bytes) -> None:
    assert await wrong_lines(b"email,name\n" + rows) == [2]


@pytest.mark.asyncio
async def test_read__rows_that_end_as_on_windows__are_read() -> None:
    rows = await read(b'email,name\r\na@example.com,"Ann\r\nLee"\r\nb@example.com,Bob\r\n')

    assert [(one.line, one.row.name) for one in rows] == [(2, "Ann\r\nLee"), (4, "Bob")]


def test_faults__in_any_order__are_the_first_by_line() -> None:
    faults = Faults()
    for number in range(5 * MAXIMUM_ERRORS):
        faults.add(number * 7919 % 1009, f"fault {number}")  # Several on each line, and the lines far from in order.
        assert len(faults._errors) < 2 * MAXIMUM_ERRORS

    with pytest.raises(InvalidRows) as refused:
        faults.raise_any()

    every = [{"detail": f"fault {number}", "line": number * 7919 % 1009} for number in range(5 * MAXIMUM_ERRORS)]
    assert refused.value.errors == sorted(every, key=lambda error: int(str(error["line"])))[:MAXIMUM_ERRORS]
