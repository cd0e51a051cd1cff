"""No cache keeps what callers send beyond a bound in bytes, whichever library's it is."""

import ast
import gc
import logging
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asgi_lifespan import LifespanManager
from starlette.types import ASGIApp

from asgi import app
from fastapi_app.core.credentials import Credential, Principal
from fastapi_app.core.revocation import Revocable
from fastapi_app.core.security import Authenticator
from project.http_limits import MAX_CACHED_TEXT, MAX_HEADER_LENGTH
from project.networks import LONGEST_ADDRESS, network
from tests.core.test_bounds import Header, ask

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "asgi.py", *(ROOT / "project").rglob("*.py"), *(ROOT / "fastapi_app").rglob("*.py")]
REVIEWED = {
    "fastapi_app/core/docs.py document": "4 prefixes that the operator serves below",
    "fastapi_app/core/negotiation.py _known_weights": "256 headers of at most MAX_CACHED_TEXT bytes",
    "project/networks.py _network": "4,096 addresses of at most LONGEST_ADDRESS characters",
    "project/accounts/hashes.py _warn": "10,000 ids of users that exist",
    "project/addresses.py _known_domain": "1,024 domains, each shorter than an address may be",
    "project/identity/keys.py _private": "8 keys, which are the issuer's",
    "project/identity/keys.py _derived": "8 secrets, which are the operator's",
    "project/identity/limits.py limiter": "one, without a key",
}
"""Each cache of ours, and why what callers send cannot make it large. Add yours when you have thought about it."""


def caches(source: Path) -> Iterator[str]:
    """The functions in a file that are decorated with, or passed to, ``functools``' caches."""
    for node in ast.walk(ast.parse(source.read_text())):
        match node:
            case ast.FunctionDef(name=name, decorator_list=decorators):
                found = decorators
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=function)):
                found = [function]
            case _:
                continue
        if any(
            isinstance(part, ast.Name) and part.id in {"cache", "lru_cache"} for one in found for part in ast.walk(one)
        ):
            yield f"{source.relative_to(ROOT)} {name}"


def test_caches__of_this_project__are_all_reviewed() -> None:
    assert {name for source in SOURCES for name in caches(source)} == set(REVIEWED)


@pytest_asyncio.fixture
async def root(database: str) -> AsyncIterator[ASGIApp]:
    async with LifespanManager(app, startup_timeout=60, shutdown_timeout=60) as manager:
        yield manager.app


NAMES = (
    b"accept", b"accept-encoding", b"accept-language", b"authorization", b"cookie", b"content-type", b"forwarded",
    b"host", b"idempotency-key", b"if-match", b"if-modified-since", b"if-none-match", b"origin", b"range", b"referer",
    b"user-agent", b"x-forwarded-for", b"x-forwarded-host", b"x-request-id",
)  # fmt: skip
"""What some layer reads."""
PATHS = ("/api/v1/users", "/accounts/login/")
BEGINNINGS = {b"authorization": b"Bearer ", b"host": b"testserver:", b"cookie": b"sessionid="}


ROUNDS = 30


@pytest.fixture
def quiet() -> Iterator[None]:
    """Nothing is logged, because pytest keeps every record of a test, with the request that Django adds to it."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def header(name: bytes, length: int, number: int) -> Header:
    """One that was never sent before."""
    return name, BEGINNINGS.get(name, b"") + b"%07d" % number + b"x" * (length - 30)


@pytest.mark.asyncio
@pytest.mark.attack
@pytest.mark.parametrize("length", [MAX_HEADER_LENGTH, 10 * MAX_HEADER_LENGTH], ids=["at the bound", "beyond it"])
@pytest.mark.parametrize("path", PATHS)
async def test_requests__each_with_another_text__leave_no_text_behind(
    path: str, length: int, root: ASGIApp, quiet: None
) -> None:
    async def send(numbers: range) -> None:
        for number in numbers:
            for start in range(0, len(NAMES), 3):  # More of them would be too long together.
                headers = [header(name, length, number) for name in NAMES[start : start + 3]]
                await ask(root, "GET", path, headers, query=b"next=%d" % number + b"x" * 7000)

    await send(range(3))  # What is made once is made.
    gc.collect()
    tracemalloc.start()
    try:
        await send(range(3, 3 + ROUNDS))
        gc.collect()
        kept, _most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # If one of the headers were kept, that would be ROUNDS times its length.
    assert kept < ROUNDS * MAX_HEADER_LENGTH * 3 / 4, f"{kept} bytes of what was sent are kept"


@pytest.mark.asyncio
@pytest.mark.attack
async def test_requests__of_many_addresses_from_a_proxy__count_for_what_they_are() -> None:
    assert {network(f"192.0.2.1%{number}") for number in range(100)} == {"192.0.2.1"}
    assert {network("x" * number) for number in range(1, 1000)} == {"unknown"}
    assert network(f"2001:db8::1%{'z' * LONGEST_ADDRESS}") == "2001:db8::/64"


@pytest.mark.asyncio
@pytest.mark.attack
async def test_credentials__however_long__are_remembered_within_a_bound_of_characters() -> None:
    class Everybody:
        changes = 0
        lookups = 0

        async def verify(self, _shown: str) -> Credential:
            return Credential(Principal(1, "c", frozenset()), 10**12, Revocable())

        def is_revoked(self, _revocable: Revocable) -> bool:
            return False

    everybody: Any = Everybody()
    authenticator = Authenticator(everybody, everybody, everybody)
    length = Authenticator.MOST_REMEMBERED_CHARACTERS // 10
    for number in range(25):
        await authenticator.authenticate(f"tdm_{number:0{length}}")
    await authenticator.authenticate(f"tdm_{24:0{length}}")

    assert len(authenticator._known) == 9
    assert sum(map(len, authenticator._known)) <= Authenticator.MOST_REMEMBERED_CHARACTERS


def test_cached_text__is_longer_than_what_browsers_send() -> None:
    chrome = (
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
        "application/signed-exchange;v=b3;q=0.7"
    )
    assert len(chrome) <= MAX_CACHED_TEXT
