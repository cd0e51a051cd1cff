"""Freshness: what ends a token before it expires is a row, written where it happens and polled by every process.

What ends a user's or a client's tokens writes the row in the same transaction. Triggers of the database write it,
whichever program makes the change (``project/identity/triggers.py``). Every process reads the rows every two seconds,
and then refuses the tokens from memory.

Memory holds the latest rows, up to a bound. While more rows matter, each credential is looked up in the database once,
and again when further rows were not kept. No clock of this process is compared with another clock: versions say which
tokens are older than a row, and the database says once, at the start, how old its rows are.
"""

import asyncio
import datetime
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import BigInteger, Text, and_, bindparam, cast, func, or_, select, type_coerce
from starlette.requests import Request

from fastapi_app.core.background import running
from fastapi_app.core.database import Database
from fastapi_app.core.requests import resources_of
from fastapi_app.core.statements import Row, Statement
from fastapi_app.core.tables import RevocationEvent
from fastapi_app.core.types import UtcDateTime

logger = logging.getLogger(__name__)

UNVERSIONED = 1
"""The version of an event that has none: earlier releases wrote a client's so. Tokens of that time have version 0."""

_latest = (
    select(
        RevocationEvent.id,
        RevocationEvent.kind,
        RevocationEvent.subject,
        RevocationEvent.version,
        RevocationEvent.created_at,
    )
    .order_by(RevocationEvent.id.desc())
    .limit(bindparam("most", type_=BigInteger))
)
_AFTER = Statement(_latest.where(RevocationEvent.id > bindparam("after")))
_BEFORE = Statement(_latest.where(RevocationEvent.id < bindparam("before")))
_BETWEEN = Statement(_latest.where(RevocationEvent.id > bindparam("after"), RevocationEvent.id < bindparam("before")))
"""For gaps, which have few rows. Of a table that was filled just now, PostgreSQL's planner takes every range with two
ends for a small one, and would sort a million rows."""
_version = func.coalesce(RevocationEvent.version, UNVERSIONED)
_LOOK_UP = Statement(
    select(RevocationEvent.id)
    .where(
        or_(
            *(
                and_(RevocationEvent.subject == bindparam(kind, type_=Text), RevocationEvent.kind == kind, *conditions)
                for kind, conditions in {
                    "token": (),
                    "family": (),
                    "user": (_version > bindparam("user_version", type_=BigInteger),),
                    "client": (_version > bindparam("client_version", type_=BigInteger),),
                    "key": (),
                    "signer": (),
                }.items()
            )
        )
    )
    .limit(1)
)
_CLOCK = Statement(select(type_coerce(func.current_timestamp(), UtcDateTime).label("now")))
_TRANSACTIONS = Statement(
    select(
        *(
            cast(cast(bound(func.pg_current_snapshot()), Text), BigInteger).label(name)
            for name, bound in {"oldest": func.pg_snapshot_xmin, "following": func.pg_snapshot_xmax}.items()
        )
    )
)
"""PostgreSQL's oldest transaction that is still open, and the next that will begin. Both only grow."""


@dataclass(frozen=True, slots=True)
class Revocable:
    """By what a credential can be ended, in the words of ``RevocationEvent.subject``; None where it cannot."""

    user: str | None = None
    user_version: int = 0
    """The user's ``token_version`` when the credential was made, or looked up."""
    token: str | None = None
    family: str | None = None
    client: str | None = None
    client_version: int = 0
    """The client's ``token_version`` when the credential was made."""
    key: str | None = None
    signer: str | None = None
    """The id of the issuer's key (``kid``) that signed a token."""


_KINDS = ("token", "family", "user", "client", "key", "signer")
_NEVER = (0, 0)


@dataclass(frozen=True, slots=True)
class _Gap:
    """Ids, both ends included, that were passed over: a transaction that is open may still commit them."""

    first: int
    last: int
    following: float = math.inf
    """No transaction from this number on can fill the gap. It is known one poll after the gap was found."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    """An event in memory."""

    until: float
    """When no token can live that the event ended, by this process's steady clock."""
    id: int
    kind: str
    subject: str


class RevocationView:
    """What is revoked, as this process knows it. ``remember_s`` is the longest life of a token."""

    POLL_EVERY_S = 2.0
    POLL_TIMEOUT_S = 10.0
    STALE_AFTER_S = 30.0
    MARGIN_S = 2 * 60 * 60.0
    """How much longer an event is remembered than a token lives. Its transaction may commit long after it was written,
    and a token of a process whose clock is an hour ahead begins, for the other processes, an hour later."""
    MOST_REMEMBERED = 10_000
    """Events in memory, at some 500 bytes each. Of more, the older ones are left to ``look_up``."""
    BATCH = 500
    """Events that are read and applied at a time, so that the event loop is held for some milliseconds only."""
    MOST_GAPS = 50

    def __init__(self, database: Database, *, remember_s: float) -> None:
        self._database = database
        self._remember_s = remember_s + self.MARGIN_S
        self._ended: dict[str, dict[str | None, tuple[int, int]]] = {kind: {} for kind in _KINDS}
        """By kind and subject: the version below which it ended, and the id of the event that was learned last."""
        self._tokens, self._families, self._users, self._clients, self._keys, self._signers = self._ended.values()
        self._remembered: deque[_Remembered] = deque()
        self._last_id: int | None = None
        self._gaps: list[_Gap] = []
        self._unread_until = 0.0
        """Until when events matter that are not in memory, by this process's steady clock."""
        self._unsettled: float | None = None
        """Transactions below this number may still commit events that do not come into memory; None when none may."""
        self._lookups = 0
        self._polled_at = 0.0
        self.changes = 0
        """While that stays, so does what ``is_revoked`` and ``lookups`` say."""
        self._is_out = False

    def is_revoked(self, credential: Revocable) -> bool:
        """Whether an event in memory ended it."""
        return (
            credential.token in self._tokens
            or credential.family in self._families
            or self._users.get(credential.user, _NEVER)[0] > credential.user_version
            or self._clients.get(credential.client, _NEVER)[0] > credential.client_version
            or credential.key in self._keys
            or credential.signer in self._signers
        )

    @property
    def lookups(self) -> int:
        """0 while memory holds every event that matters, else a number that grows when ``look_up`` is due again."""
        return self._lookups if time.monotonic() < self._unread_until else 0

    async def look_up(self, credential: Revocable) -> bool:
        """Whether any event in the database ended it. Raises what ``Database.fetch_all`` raises."""
        rows = await self._database.fetch_all(
            _LOOK_UP,
            token=credential.token,
            family=credential.family,
            user=credential.user,
            user_version=credential.user_version,
            client=credential.client,
            client_version=credential.client_version,
            key=credential.key,
            signer=credential.signer,
        )
        return bool(rows)

    @property
    def is_stale(self) -> bool:
        """Whether too long has passed since the database was last heard."""
        return time.monotonic() - self._polled_at > self.STALE_AFTER_S

    async def poll(self) -> None:
        """Learn what was revoked since. Raises what ``Database.fetch_all`` raises."""
        async with asyncio.timeout(self.POLL_TIMEOUT_S):
            if self._last_id is None:
                await self._begin()
            else:
                await self._go_on(self._last_id)
        self._forget_before(time.monotonic())
        self._polled_at = time.monotonic()

    async def _begin(self) -> None:
        """Learn the latest events: all that can matter, or as many as memory may hold."""
        database_now = (await self._database.fetch_all(_CLOCK))[0]["now"]
        oldest = database_now - datetime.timedelta(seconds=self._remember_s)
        rows, ended_by = await self._read(after=0, oldest=oldest)
        if ended_by == "bound":
            self._leave_unread()
        # Below what is too old nothing can commit that is not. Below the first row of all there is a gap.
        lowest = 0 if ended_by == "end" or not rows else rows[0]["id"] - 1
        self._note_gaps(list(_gaps(lowest, rows)))
        await self._learn(rows, database_now)
        self._last_id = rows[-1]["id"] if rows else 0

    async def _go_on(self, last_id: int) -> None:
        """Learn the events since the last poll, and those that have filled a gap."""
        oldest, following = await self._open_transactions()
        gaps = list[_Gap]()
        for gap in self._gaps:
            rows, ended_by = await self._read(after=gap.first - 1, before=gap.last + 1)
            await self._learn(rows)
            if ended_by == "bound":
                self._leave_unread()
            elif gap.following > oldest:
                gaps += _gaps(gap.first - 1, rows, gap.last + 1, min(gap.following, following))
        rows, ended_by = await self._read(after=last_id)
        await self._learn(rows)
        if self._unsettled is not None:
            self._unsettled = min(self._unsettled, following) if self._unsettled > oldest else None
            self._look_up_again()
        if ended_by == "bound":
            self._leave_unread()
        self._note_gaps([*gaps, *_gaps(last_id if ended_by == "end" else rows[0]["id"] - 1, rows)])
        self._last_id = rows[-1]["id"] if rows else last_id

    async def _open_transactions(self) -> tuple[float, float]:
        """The oldest that is open, and the next one. SQLite has one writer, so its ids are committed in order."""
        is_needed = self._gaps or self._unsettled is not None
        if not is_needed or self._database.engine.dialect.name != "postgresql":
            return math.inf, math.inf
        row = (await self._database.fetch_all(_TRANSACTIONS))[0]
        return row["oldest"], row["following"]

    async def _read(
        self, *, after: int, before: int | None = None, oldest: datetime.datetime | None = None
    ) -> tuple[list[Row], Literal["end", "age", "bound"]]:
        """The latest rows between two ids, in the order of their ids, and why there are no more.

        No condition asks for ``created_at``: the planner might choose its index, and then sort a million rows.
        """
        rows, fetch = list[Row](), self._database.fetch_all
        if before is None:
            batch = await fetch(_AFTER, after=after, most=self.BATCH)
        else:
            batch = await fetch(_BETWEEN, after=after, before=before, most=self.BATCH)
        while True:
            rows += batch
            ended_by = self._ended_by(batch, len(rows), oldest)
            if ended_by is not None:
                rows.reverse()
                return rows, ended_by
            batch = await fetch(_BEFORE, before=batch[-1]["id"], most=self.BATCH)
            batch = [row for row in batch if row["id"] > after]

    def _ended_by(
        self, batch: Sequence[Row], count: int, oldest: datetime.datetime | None
    ) -> Literal["end", "age", "bound"] | None:
        if len(batch) < self.BATCH:
            return "end"
        if oldest is not None and max(row["created_at"] for row in batch) <= oldest:
            return "age"
        return "bound" if count >= self.MOST_REMEMBERED else None

    async def _learn(self, rows: Sequence[Row], database_now: datetime.datetime | None = None) -> None:
        """Apply events; ``database_now`` tells how old they are, without it they are new."""
        until = time.monotonic() + self._remember_s
        for place, row in enumerate(rows):
            age_s = 0.0 if database_now is None else (database_now - row["created_at"]).total_seconds()
            self._apply(row, until - max(age_s, 0.0))
            if place % self.BATCH == self.BATCH - 1:
                await asyncio.sleep(0)
        if len(self._remembered) > self.MOST_REMEMBERED:
            self._evict()

    def _apply(self, row: Row, until: float) -> None:
        kind, subject = row["kind"], row["subject"]
        if kind not in self._ended:  # A newer release may know more kinds.
            return
        version = UNVERSIONED if row["version"] is None else row["version"]
        known, _id = self._ended[kind].get(subject, _NEVER)
        self._ended[kind][subject] = max(known, version), row["id"]
        self.changes += 1
        if kind != "signer":  # Never forgotten: the key can sign tokens that expire later.
            self._remembered.append(_Remembered(until, row["id"], kind, subject))

    def _forget_before(self, moment: float) -> None:
        while self._remembered and self._remembered[0].until <= moment:
            self._forget(self._remembered.popleft())

    def _evict(self) -> None:
        """Leave the older half of the events to ``look_up``."""
        while len(self._remembered) > self.MOST_REMEMBERED // 2:
            event = self._remembered.popleft()
            self._unread_until = max(self._unread_until, event.until)
            self._forget(event)
        self._look_up_again()

    def _forget(self, event: _Remembered) -> None:
        if (
            self._ended[event.kind].get(event.subject, _NEVER)[1] == event.id
        ):  # Else a later event has the same subject.
            del self._ended[event.kind][event.subject]

    def _leave_unread(self) -> None:
        """Some events were not read: from now on credentials are looked up, as long as those events matter."""
        self._unread_until = time.monotonic() + self._remember_s
        self._unsettled = math.inf
        self._look_up_again()

    def _look_up_again(self) -> None:
        self._lookups += 1
        self.changes += 1

    def _note_gaps(self, gaps: list[_Gap]) -> None:
        if len(gaps) > self.MOST_GAPS:
            self._leave_unread()
        self._gaps = gaps[-self.MOST_GAPS :]

    async def keep_polling(self) -> None:
        """Poll until cancelled. An outage is told once when it begins and once when it ends."""
        while True:
            await asyncio.sleep(self.POLL_EVERY_S)
            try:
                await self.poll()
            except Exception as error:
                if not self._is_out:
                    logger.warning("revocations cannot be read: %s: %s", type(error).__name__, error)
                self._is_out = True
            else:
                if self._is_out:
                    logger.info("revocations can be read again")
                self._is_out = False


def _gaps(after: int, rows: Sequence[Row], before: int | None = None, following: float = math.inf) -> Iterator[_Gap]:
    """The ids between ``after``, the rows and ``before`` that no row has."""
    ends = [row["id"] for row in rows]
    for end in ends if before is None else [*ends, before]:
        if end > after + 1:
            yield _Gap(after + 1, end - 1, following)
        after = end


@asynccontextmanager
async def open_revocations(database: Database, *, remember_s: float) -> AsyncIterator[RevocationView]:
    """A view that has been read once, and is kept up to date. Raises what ``RevocationView.poll`` raises."""
    view = RevocationView(database, remember_s=remember_s)
    await view.poll()
    async with running(view.keep_polling(), name="revocations"):
        yield view


async def revocations_are_fresh(request: Request) -> None:
    """Readiness: what is revoked is known.

    Raises:
        RuntimeError: it has not been read for too long, so writes are refused.
    """
    if resources_of(request).revocations.is_stale:
        raise RuntimeError("revocations have not been read for too long, so writes are refused")
