"""API keys for scripts: ``Authorization: Bearer tdm_...``. Only a key's hash is stored; Django's admin makes them."""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import bindparam, update

from fastapi_app.core.background import running
from fastapi_app.core.credentials import Credential, Principal, refuse
from fastapi_app.core.database import Database
from fastapi_app.core.permissions import held_scopes, with_permissions
from fastapi_app.core.revocation import Revocable
from fastapi_app.core.statements import Statement
from fastapi_app.core.tables import ApiKey, User
from fastapi_app.core.types import UtcDateTime, now

logger = logging.getLogger(__name__)

MAXIMUM_KEY_LENGTH = 200
"""Characters; several times what a key has."""
BELIEVED_S = 2.0
"""How long a key that was looked up needs no second look: as long as any other revocation may take."""
NOTE_EVERY_S = 60.0
"""How far behind ``last_used_at`` may be."""

_FIND = Statement(
    with_permissions(ApiKey.id, ApiKey.owner_id, ApiKey.scopes, ApiKey.expires_at, ApiKey.revoked_at)
    .join(ApiKey, ApiKey.owner_id == User.id)
    .where(ApiKey.hash == bindparam("hash"))
)
_NOTE_USE = Statement(
    update(ApiKey)
    .where(ApiKey.id == bindparam("key_id"))
    .values(last_used_at=bindparam("used_at", type_=UtcDateTime))
    .returning(ApiKey.id)
)


class ApiKeys:
    """Looks keys up, and notes that they were used."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._used = set[int]()

    async def verify(self, key: str) -> Credential:
        """What ``key`` proves: its owner, and those of its scopes that the owner still holds.

        Raises:
            Unauthenticated: it is unknown, has expired or was revoked, or its owner is deactivated.
            Unavailable: it cannot be looked up just now.
        """
        if len(key) > MAXIMUM_KEY_LENGTH:
            refuse("the API key is not known")
        rows = await self._database.fetch_all(_FIND, hash=hashlib.sha256(key.encode()).hexdigest())
        if not rows:
            refuse("the API key is not known")
        found = rows[0]
        if found["revoked_at"] is not None:
            refuse("the API key was revoked")
        if found["expires_at"] is not None and found["expires_at"] <= now():
            refuse("the API key has expired")
        if not found["is_active"]:
            refuse("the API key's owner is deactivated")
        self._used.add(found["id"])
        scopes = frozenset(found["scopes"].split()) & held_scopes(rows)
        believed_until = time.time() + BELIEVED_S
        return Credential(
            Principal(found["owner_id"], f"api-key:{found['id']}", scopes),
            min(believed_until, found["expires_at"].timestamp()) if found["expires_at"] else believed_until,
            Revocable(user=str(found["owner_id"]), user_version=found["token_version"], key=str(found["id"])),
        )

    async def note_uses(self) -> None:
        """Write which keys were used since the last time. A note is not worth more than a line when that fails."""
        used, self._used = self._used, set()
        try:
            for key_id in used:
                await self._database.fetch_all(_NOTE_USE, key_id=key_id, used_at=now())
        except Exception as error:
            logger.warning("the last use of API keys cannot be noted: %s: %s", type(error).__name__, error)

    async def keep_noting(self) -> None:
        """Note uses until cancelled."""
        while True:
            await asyncio.sleep(NOTE_EVERY_S)
            await self.note_uses()


@asynccontextmanager
async def open_api_keys(database: Database) -> AsyncIterator[ApiKeys]:
    """The keys; what was used is noted once a minute, and at the end."""
    keys = ApiKeys(database)
    try:
        async with running(keys.keep_noting(), name="API keys"):
            yield keys
    finally:
        await keys.note_uses()
