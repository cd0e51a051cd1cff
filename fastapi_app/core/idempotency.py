"""Safe retries: a POST that is repeated with its ``Idempotency-Key`` has one effect, and one answer.

The answer is kept in the transaction of the effect, so that neither is ever there without the other, whichever process
dies when. Only an answer of success is kept: a refusal had no effect, and is decided anew.

``APIRouter(route_class=IdempotentRoute)`` gives it to each POST of a router whose dependencies take their database from
``executor``. Without the header a POST runs as it would without all this.
"""

import hashlib
import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any

from fastapi import Depends, Request, Response
from fastapi.params import Depends as Dependency
from sqlalchemy import Boolean, bindparam, delete, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from starlette.types import Scope

from fastapi_app.core.database import Executor, Joined, Transaction
from fastapi_app.core.errors import InFlight, InvalidParameter, KeyReused, responses
from fastapi_app.core.problems import merged
from fastapi_app.core.requests import resources_of
from fastapi_app.core.routing import ContractRoute
from fastapi_app.core.security import any_caller
from fastapi_app.core.statements import Row, Statement
from fastapi_app.core.tables import KeptAnswer
from fastapi_app.core.types import now
from project.asgi_scope import header
from project.config import ANSWERS_KEPT_FOR

MAXIMUM_KEY_LENGTH = 255
CLEAN_ONCE_IN = 100
"""Kept answers; then at most ``CLEANED_AT_ONCE`` that have expired are deleted."""
CLEANED_AT_ONCE = 1000


REPLAYED_HEADER: dict[str, Any] = {
    "Idempotency-Replayed": {
        "description": "true: this is the first answer to the key, once more.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}


class try_lock(FunctionElement[bool]):  # noqa: N801  An SQL function, named as SQLAlchemy names those.
    """Whether nobody else holds the lock of this number; it is held until the transaction ends, however it does.

    SQLite has one lock, for all writers, and waits for it: whoever gets to ask this holds it.
    """

    type = Boolean()
    inherit_cache = True


@compiles(try_lock)
def _try_lock(element: try_lock, compiler: Any, **options: Any) -> str:
    return f"pg_try_advisory_xact_lock({compiler.process(element.clauses, **options)})"


@compiles(try_lock, "sqlite")
def _try_lock_on_sqlite(element: try_lock, compiler: Any, **options: Any) -> str:
    return f"({compiler.process(element.clauses, **options)} IS NOT NULL)"


_IS_OF_KEY = (
    KeptAnswer.caller == bindparam("caller"),
    KeptAnswer.route == bindparam("route"),
    KeptAnswer.key == bindparam("key"),
)
_NAMES = ("caller", "route", "key", "fingerprint")
# Without the lock a second insert of the key would wait for the first request to end, and hold a connection meanwhile.
_CLAIM = Statement(
    insert(KeptAnswer)
    .from_select(
        list(_NAMES),
        select(
            *(
                literal_of.label(literal_of.key)
                for literal_of in (bindparam(name, type_=KeptAnswer.key.type) for name in _NAMES)
            )
        ).where(try_lock(bindparam("lock", type_=KeptAnswer.id.type))),
    )
    .on_conflict_do_nothing()
    .returning(KeptAnswer.id)
)
_GET = Statement(
    select(
        KeptAnswer.id,
        KeptAnswer.fingerprint,
        KeptAnswer.status,
        KeptAnswer.headers,
        KeptAnswer.body,
        KeptAnswer.created_at,
    ).where(*_IS_OF_KEY)
)
_KEEP = Statement(
    update(KeptAnswer)
    .where(KeptAnswer.id == bindparam("answer_id"))
    .values(status=bindparam("status"), headers=bindparam("headers"), body=bindparam("body"))
    .returning(KeptAnswer.id)
)
_EXPIRE = Statement(delete(KeptAnswer).where(KeptAnswer.id == bindparam("answer_id")).returning(KeptAnswer.id))
_CLEAN = Statement(
    delete(KeptAnswer)
    .where(
        KeptAnswer.id.in_(
            select(KeptAnswer.id).where(KeptAnswer.created_at < bindparam("before")).limit(literal(CLEANED_AT_ONCE))
        )
    )
    .returning(KeptAnswer.id)
)


def executor(request: Request) -> Executor:
    """What the request's statements run on: the database, or the transaction in which its answer will be kept."""
    attempt: _Attempt | None = request.scope.get("idempotency")
    return resources_of(request).database if attempt is None else attempt.executor


class IdempotentRoute(ContractRoute):
    """A route that, when it is a POST, honours ``Idempotency-Key``; what it answers must not be a stream."""

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        dependencies: Sequence[Dependency] | None = None,
        **options: Any,
    ) -> None:
        if options.get("methods") and "POST" in options["methods"]:
            dependencies = [*(one for one in dependencies or () if one.dependency is not _claim), Depends(_claim)]
            options["openapi_extra"] = _documented(options.get("openapi_extra") or {})
            success = int(options.get("status_code") or HTTPStatus.OK)
            own = {**responses(InFlight, KeyReused), success: {"headers": REPLAYED_HEADER}}
            options["responses"] = merged(options.get("responses") or {}, own)
        super().__init__(path, endpoint, dependencies=dependencies, **options)

    def takes(self, scope: Scope) -> bool:
        # With a key an answer has to be kept, which the handler below does.
        return super().takes(scope) and header(scope, b"idempotency-key") is None

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()
        if "POST" not in (self.methods or ()):
            return answer

        async def answer_once(request: Request) -> Response:
            if "idempotency-key" not in request.headers:
                return await answer(request)
            async with AsyncExitStack() as stack:
                request.scope["idempotency"] = attempt = _Attempt(request, stack)
                try:
                    response = await answer(request)
                except _AnsweredBefore as before:
                    return before.response
                await attempt.keep(response)
                return response

        return answer_once


async def _claim(request: Request) -> None:
    """Take the key, once the dependencies before this one have let the caller in."""
    attempt: _Attempt | None = request.scope.get("idempotency")
    if attempt is not None:
        await attempt.begin(request)


class _AnsweredBefore(Exception):
    def __init__(self, kept: Row) -> None:
        self.response = Response(kept["body"], kept["status"])
        self.response.raw_headers = [
            *((name.encode("latin-1"), value.encode("latin-1")) for name, value in kept["headers"]),
            (b"idempotency-replayed", b"true"),
        ]


class _Attempt:
    """A request with a key, from the claim of the key to the commit of its effect and answer."""

    def __init__(self, request: Request, stack: AsyncExitStack) -> None:
        self._request = request
        self._stack = stack
        self._database = resources_of(request).database
        self._transaction: Transaction | None = None
        self._answer_id = 0

    @property
    def executor(self) -> Executor:
        return self._database if self._transaction is None else Joined(self._transaction)

    async def begin(self, request: Request) -> None:
        """Take the key.

        Raises:
            _AnsweredBefore: its answer is there.
            InFlight, KeyReused: it cannot be had.
            InvalidParameter: it is none.
        """
        values = {
            "caller": _short((await any_caller(self._request)).name),
            "route": _short(f"{request.method} {request.scope['path']}"),
            "key": _key(request),
        }
        fingerprint = await _fingerprint(request)
        transaction = await self._stack.enter_async_context(self._database.transaction())
        claim = {**values, "fingerprint": fingerprint, "lock": _number(*values.values())}
        claimed = await transaction.fetch_one(_CLAIM, **claim)
        if claimed is None:
            kept = await transaction.fetch_one(_GET, **values)
            if kept is None:
                raise InFlight
            if now() - kept["created_at"] < ANSWERS_KEPT_FOR:
                raise _AnsweredBefore(kept) if kept["fingerprint"] == fingerprint else KeyReused
            await transaction.fetch_all(_EXPIRE, answer_id=kept["id"])
            claimed = await transaction.fetch_one(_CLAIM, **claim)
            if claimed is None:
                raise InFlight
        self._transaction, self._answer_id = transaction, claimed["id"]

    async def keep(self, response: Response) -> None:
        """Commit the effect with its answer; an answer that is no success undoes what there is of an effect."""
        if self._transaction is None or response.status_code >= HTTPStatus.BAD_REQUEST:
            return
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in response.raw_headers]
        await self._transaction.fetch_all(
            _KEEP,
            answer_id=self._answer_id,
            status=response.status_code,
            headers=headers,
            body=bytes(response.body),
        )
        await self._transaction.commit()
        await self._stack.aclose()  # The connection goes back before another is asked for.
        if random.randrange(CLEAN_ONCE_IN) == 0:  # noqa: S311  Which request cleans up is no secret.
            await self._database.fetch_all(_CLEAN, before=now() - ANSWERS_KEPT_FOR)


def _key(request: Request) -> str:
    key = request.headers["idempotency-key"]
    if not 0 < len(key) <= MAXIMUM_KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise InvalidParameter(
            "Idempotency-Key", f"Give 1 to {MAXIMUM_KEY_LENGTH} printable ASCII characters, such as a UUID."
        )
    return key


def _short(name: str) -> str:
    """A name as it is, or its hash where a column would not take it."""
    fits = len(name) <= MAXIMUM_KEY_LENGTH and name.isprintable()
    return name if fits else hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()


async def _fingerprint(request: Request) -> str:
    """What was asked: its query, the form of its body, and the body."""
    asked = hashlib.sha256()
    for part in (request.scope["query_string"], request.headers.get("content-type", "").encode("latin-1")):
        asked.update(hashlib.sha256(part).digest())
    asked.update(await request.body())
    return asked.hexdigest()


def _number(*values: str) -> int:
    """A lock's number for a key: two keys that share one, once in 2^64, would only wait for each other."""
    digest = hashlib.sha256("\n".join(values).encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


def _documented(extra: dict[str, Any]) -> dict[str, Any]:
    name = "Idempotency-Key"
    if any(parameter["name"] == name for parameter in extra.get("parameters", ())):
        return extra
    parameter = {
        "name": name,
        "in": "header",
        "required": False,
        "description": "Repeat the request with it, for 24 hours, and it is done once and answered alike.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAXIMUM_KEY_LENGTH, "pattern": "^[ -~]+$"},
    }
    return {**extra, "parameters": [*extra.get("parameters", ()), parameter]}
