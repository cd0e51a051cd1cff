"""An issuer's public keys (JWK Set, RFC 7517), fetched when they are needed and remembered for a while."""

import asyncio
import logging
import time
from contextvars import Context
from typing import Any

import httpx2
from joserfc.errors import JoseError
from joserfc.jwk import Key, import_key

from fastapi_app.core.errors import Unavailable
from project.config import is_safe_address

logger = logging.getLogger(__name__)

DISCOVERY_PATH = "/.well-known/openid-configuration"
ASYMMETRIC = frozenset({"RSA", "EC", "OKP"})
"""Key types (RFC 7518, section 6.1) that have a public half; a secret is nothing to publish, or to believe."""


class IssuerKeys:
    """The keys of one issuer. Many may ask at once: they wait for one fetch.

    A key that is not known is looked for again, at most once in ``cool_down_s`` seconds, so that made-up key ids cost
    the issuer nothing. While it does not answer, what it published last is believed for ``BELIEVED_S`` seconds.
    """

    LIFETIME_S = 300.0
    COOL_DOWN_S = 10.0
    BELIEVED_S = 24 * 60 * 60.0
    FETCH_TIMEOUT_S = 5.0

    def __init__(
        self, issuer: str, jwks_uri: str | None, http: httpx2.AsyncClient, *, cool_down_s: float = COOL_DOWN_S
    ) -> None:
        self.issuer = issuer
        self.cool_down_s = cool_down_s
        self._jwks_uri = jwks_uri
        self._http = http
        self._document: Any = None
        self._keys: dict[str, Key] = {}
        self._fetched_at: float | None = None
        self._good_until = 0.0
        self._fetch_again_at = 0.0
        self._fetching: asyncio.Task[None] | None = None
        self._is_out = False

    def is_current(self, kid: str, key: Key) -> bool:
        """Whether ``key`` still is what the issuer publishes as ``kid``, as far as is known without asking it."""
        return self._keys.get(kid) is key and time.monotonic() < self._good_until

    async def find(self, kid: str) -> Key | None:
        """The key with this id, or None.

        Raises:
            Unavailable: the issuer's keys are not to be had, nor were they within ``BELIEVED_S`` seconds.
        """
        if kid not in self._keys or time.monotonic() >= self._good_until:
            await self._refresh()
        if self._fetched_at is None:
            raise Unavailable("The token's issuer does not answer just now.")
        return self._keys.get(kid)

    async def close(self) -> None:
        """Give up a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def _refresh(self) -> None:
        if self._fetching is None:
            if time.monotonic() < self._fetch_again_at:
                return
            # A task of its own: a request that is cancelled takes nobody else's keys along, and what the in-process
            # issuer sets in its context (request id, Django thread) stays out of the request that asks.
            self._fetching = asyncio.get_running_loop().create_task(self._fetch(), context=Context())
        await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(self.FETCH_TIMEOUT_S):
                document = await self._download()
            self._take(document)
        except Exception as error:
            self._do_without(error)
        finally:
            self._fetch_again_at = time.monotonic() + self.cool_down_s
            self._fetching = None

    async def _download(self) -> Any:
        uri = self._jwks_uri or await self._discover()
        return (await self._http.get(uri)).raise_for_status().json()

    async def _discover(self) -> str:
        """The address of the keys, from the issuer's own document (OpenID Connect Discovery 1.0, section 4)."""
        address = self.issuer.rstrip("/") + DISCOVERY_PATH
        document = (await self._http.get(address)).raise_for_status().json()
        if document["issuer"] != self.issuer:
            raise ValueError(f"{address} is the document of another issuer: {document['issuer']}")
        uri = str(document["jwks_uri"])
        if not is_safe_address(uri):
            raise ValueError(f"{address} names keys that anybody on the way can change: {uri}")
        return uri

    def _take(self, document: Any) -> None:
        if document != self._document:  # Unchanged keys stay the same objects, so that no token is verified again.
            self._keys = dict(_readable(document["keys"]))
            self._document = document
        self._fetched_at = time.monotonic()
        self._good_until = self._fetched_at + self.LIFETIME_S
        if self._is_out:
            logger.info("%s publishes its keys again", self.issuer)
        self._is_out = False

    def _do_without(self, error: Exception) -> None:
        if not self._is_out:
            logger.warning("the keys of %s cannot be fetched: %s: %s", self.issuer, type(error).__name__, error)
        self._is_out = True
        now = time.monotonic()
        if self._fetched_at is not None and now - self._fetched_at >= self.BELIEVED_S:
            self._keys, self._document, self._fetched_at = {}, None, None
        self._good_until = now + self.cool_down_s


def _readable(published: list[dict[str, Any]]) -> list[tuple[str, Key]]:
    """The keys that can verify a signature, by their ids; others may stand beside them."""
    keys = []
    for jwk in published:
        if jwk.get("kty") in ASYMMETRIC and jwk.get("use", "sig") == "sig" and jwk.get("kid"):
            try:
                keys.append((str(jwk["kid"]), import_key(jwk)))
            except (JoseError, ValueError) as error:
                logger.warning("a published key cannot be read: %s: %s", jwk["kid"], error)
    return keys
