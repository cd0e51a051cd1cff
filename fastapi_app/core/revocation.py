"""Freshness: what ends a token before it expires is a row, written where it happens and polled by every process.

What ends a user's tokens writes the row in the same transaction: triggers of the database see to it, whoever changes
the user (``project/identity/triggers.py``). Two seconds later at most, every process refuses them, from memory. Nothing
is asked of the database while a request waits.
"""

import asyncio
import datetime
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import bindparam, select
from starlette.requests import Request

from fastapi_app.core.background import running
from fastapi_app.core.database import Database
from fastapi_app.core.requests import resources_of
from fastapi_app.core.statements import Row, Statement
from fastapi_app.core.tables import RevocationEvent
from fastapi_app.core.types import UTC

logger = logging.getLogger(__name__)

_EVENTS = Statement(
    select(
        RevocationEvent.id,
        RevocationEvent.kind,
        RevocationEvent.subject,
        RevocationEvent.version,
        RevocationEvent.created_at,
    )
    .where(RevocationEvent.id > bindparam("after"), RevocationEvent.created_at > bindparam("since"))
    .order_by(RevocationEvent.id)
)


@dataclass(frozen=True, slots=True)
class Revocable:
    """By what a credential can be ended, in the words of ``RevocationEvent.subject``; None where it cannot."""

    user: str | None = None
    user_version: int = 0
    """The user's ``token_version`` when the credential was made, or looked up."""
    token: str | None = None
    family: str | None = None
    client: str | None = None
    issued_at: float = 0.0
    key: str | None = None
    signer: str | None = None
    """The id of the issuer's key (``kid``) that signed a token."""


_KINDS = ("token", "family", "user", "client", "key", "signer")


def _limit(row: Row) -> float:
    """What ends with the event: a user's tokens below a version, a client's up to a moment, else just its subject."""
    match row["kind"]:
        case "user":
            return float(row["version"] or 0)
        case "client":
            return float(row["created_at"].timestamp())
    return float(row["id"])


class RevocationView:
    """What is revoked, as this process knows it. ``remember_s`` is the longest life of a token."""

    POLL_EVERY_S = 2.0
    POLL_TIMEOUT_S = 10.0
    STALE_AFTER_S = 30.0
    LONGEST_TRANSACTION_S = 300.0
    """How long an id that was passed over is waited for: its transaction may still commit."""
    MOST_MISSING = 500
    """Ids that are waited for, the latest ones: sequences also skip some for good."""

    def __init__(self, database: Database, *, remember_s: float) -> None:
        self._database = database
        self._remember_s = remember_s
        self._ended: dict[str, dict[str | None, float]] = {kind: {} for kind in _KINDS}
        self._tokens, self._families, self._users, self._clients, self._keys, self._signers = self._ended.values()
        self._applied: deque[tuple[datetime.datetime, str, str, float]] = deque()
        """When, kind, subject and limit of each event that is remembered; about 300 bytes."""
        self._last_id = 0
        self._missing: dict[int, float] = {}
        self._polled_at = 0.0
        self.changes = 0
        """How often an event was applied: while that stays, so does what ``is_revoked`` says."""
        self._is_out = False

    def is_revoked(self, credential: Revocable) -> bool:
        """Whether it was ended."""
        return (
            credential.token in self._tokens
            or credential.family in self._families
            or self._users.get(credential.user, 0) > credential.user_version
            or self._clients.get(credential.client, -1) >= credential.issued_at
            or credential.key in self._keys
            or credential.signer in self._signers
        )

    @property
    def is_stale(self) -> bool:
        """Whether too long has passed since the database was last heard."""
        return time.monotonic() - self._polled_at > self.STALE_AFTER_S

    async def poll(self) -> None:
        """Learn what was revoked since. Raises what ``Database.fetch_all`` raises."""
        since = datetime.datetime.now(UTC) - datetime.timedelta(seconds=self._remember_s)
        after = min(self._missing, default=self._last_id + 1) - 1
        async with asyncio.timeout(self.POLL_TIMEOUT_S):
            rows = await self._database.fetch_all(_EVENTS, after=after, since=since)
        self._forget_before(since)
        self._learn(rows)
        self._polled_at = time.monotonic()

    def _learn(self, rows: Iterable[Row]) -> None:
        """Apply the new ones. Ids come in order, their commits in any: those passed over are waited for."""
        now = time.monotonic()
        for row in rows:
            if row["id"] > self._last_id:
                passed_over = range(max(self._last_id + 1, row["id"] - self.MOST_MISSING), row["id"])
                self._missing.update(dict.fromkeys(passed_over, now))
                self._last_id = row["id"]
            elif self._missing.pop(row["id"], None) is None:
                continue
            self._apply(row)
        for missing in list(self._missing)[: -self.MOST_MISSING]:
            del self._missing[missing]
        while self._missing and (oldest := next(iter(self._missing.items())))[1] < now - self.LONGEST_TRANSACTION_S:
            del self._missing[oldest[0]]

    def _apply(self, row: Row) -> None:
        if row["kind"] in self._ended:  # A newer release may know more kinds.
            ended, limit = self._ended[row["kind"]], _limit(row)
            self.changes += 1
            ended[row["subject"]] = max(ended.get(row["subject"], 0), limit)
            if row["kind"] != "signer":  # Never forgotten: whoever has the key can sign what expires later.
                self._applied.append((row["created_at"], row["kind"], row["subject"], limit))

    def _forget_before(self, moment: datetime.datetime) -> None:
        """Forget what ended only tokens that have expired since; a later event about the same subject stays."""
        while self._applied and self._applied[0][0] <= moment:
            _when, kind, subject, limit = self._applied.popleft()
            if self._ended[kind].get(subject) == limit:
                del self._ended[kind][subject]

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
