"""Entity tags: how conditions are read, and what they decide."""

from collections.abc import Sequence
from typing import Annotated

import httpx2
import pytest
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel
from starlette.requests import Request

from fastapi_app.app import create_api
from fastapi_app.core.entity_tags import ANY, EntityTags, IfMatch, parse
from fastapi_app.core.errors import InvalidParameter, PreconditionRequired, responses
from fastapi_app.core.versions import Version


class Shown(BaseModel):
    name: str


class ShownWithMore(Shown):
    age: int


TAGS = EntityTags(Shown)
SEVEN = TAGS.tag({"version": 7})
EIGHT = TAGS.tag({"version": 8})


def request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "headers": raw})


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ('"a"', ['"a"']),
        ('W/"a"', ['W/"a"']),
        ('"a", W/"b" ,"c"', ['"a"', 'W/"b"', '"c"']),
        (',, "a",\t,"b",', ['"a"', '"b"']),
        ('""', ['""']),
        ('"a,b"', ['"a,b"']),
        ('"é"', ['"é"']),
        (" * ", [ANY]),
        ('"*"', ['"*"']),
    ],
)
def test_condition__by_the_grammar__is_read(value: str, tags: Sequence[str]) -> None:
    assert list(parse("If-Match", value)) == tags


@pytest.mark.parametrize(
    "value", ["", ",", "a", '"a', 'a"', 'w/"a"', 'W/ "a"', '"a" "b"', '"a b"', '"a", *', '"a"x', '"\x7f"']
)
def test_condition__against_the_grammar__is_refused(value: str) -> None:
    with pytest.raises(InvalidParameter):
        parse("If-Match", value)


def test_tag__other_version_or_other_shape__is_another() -> None:
    assert len({SEVEN, EIGHT, EntityTags(ShownWithMore).tag({"version": 7})}) == 3
    assert SEVEN[0] == SEVEN[-1] == '"'
    assert EntityTags(Shown).tag({"version": 7}) == SEVEN


@pytest.mark.asyncio
async def test_if_match__strong_tags_of_this_shape__are_versions() -> None:
    async def versions(condition: str) -> frozenset[int] | None:
        return await IfMatch(TAGS)(request(if_match=condition))

    assert await versions("*") is None
    assert await versions(SEVEN) == frozenset({7})
    assert await versions(f"{SEVEN}, {EIGHT}") == frozenset({7, 8})
    assert await versions(f'W/{SEVEN}, "x", {EIGHT}') == frozenset({8})
    assert await versions(f"W/{SEVEN}") == frozenset()
    assert await versions(EntityTags(ShownWithMore).tag({"version": 7})) == frozenset()
    for no_version in ("-7", "\u0667", "7" * 5000):
        assert await versions(SEVEN.replace('"7', f'"{no_version}')) == frozenset()


@pytest.mark.asyncio
async def test_if_match__required_and_absent__is_demanded() -> None:
    assert await IfMatch(TAGS)(request()) is None
    with pytest.raises(PreconditionRequired):
        await IfMatch(TAGS, required=True)(request())
    assert await IfMatch(TAGS, required=True)(request(if_match=SEVEN)) == frozenset({7})


@pytest.mark.asyncio
async def test_if_match__route_that_demands_it__answers_428_without() -> None:
    router = APIRouter()
    versions = Annotated[frozenset[int] | None, Depends(IfMatch(TAGS, required=True))]

    @router.patch("/shown", responses=responses(PreconditionRequired))
    async def change(versions: versions) -> list[int]:
        return sorted(versions or ())

    api = create_api([Version("v1", [router])])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(api), base_url="http://testserver") as client:
        without = await client.patch("/v1/shown")
        given = await client.patch("/v1/shown", headers={"if-match": SEVEN})
        document = (await client.get("/v1/openapi.json")).json()

    assert (without.status_code, without.headers["content-type"]) == (428, "application/problem+json")
    assert "If-Match" in without.json()["detail"]
    assert (given.status_code, given.json()) == (200, [7])
    operation = document["paths"]["/shown"]["patch"]
    assert [(one["name"], one["required"]) for one in operation["parameters"]] == [("If-Match", True)]
    assert "428" in operation["responses"]


@pytest.mark.parametrize(
    ("condition", "status"),
    [(None, None), (SEVEN, 304), (f"W/{SEVEN}", 304), (f"{EIGHT}, {SEVEN}", 304), ("*", 304), (EIGHT, None)],
)
def test_if_none_match__has_the_tag__is_not_modified(condition: str | None, status: int | None) -> None:
    row, response = {"version": 7}, Response()

    answer = TAGS.answer(row, request(**({"if_none_match": condition} if condition else {})), response)

    if status is None:
        assert answer is row
        assert response.headers["etag"] == SEVEN
    else:
        assert isinstance(answer, Response)
        assert (answer.status_code, answer.headers["etag"], answer.body) == (status, SEVEN, b"")
