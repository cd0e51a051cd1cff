"""An issuer's public keys (JWK Set, RFC 7517), fetched when they are needed and remembered for a while."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any

import httpx2
from joserfc.errors import JoseError
from joserfc.jwk import Key, import_key
from joserfc.jws import JWSRegistry

from fastapi_app.core.errors import Unavailable
from project.config import is_safe_address

logger = logging.getLogger(__name__)

DISCOVERY_PATH = "/.well-known/openid-configuration"
ASYMMETRIC = frozenset({"RSA", "EC", "OKP"})
"""Key types (RFC 7518, section 6.1) that have a public half; a secret is nothing to publish, or to believe."""


@dataclass(frozen=True, slots=True, eq=False)
class PublishedKey:
    """A public key that an issuer publishes; the same object for as long as its keys stay the same."""

    kid: str | None
    """Its id, which is optional (RFC 7517, section 4.5) and which keys of different types may share."""
    key: Key

    def fits(self, algorithm: str) -> bool:
        """Whether its type, curve, ``use``, ``key_ops`` and ``alg`` let it verify signatures of this algorithm."""
        try:
            JWSRegistry.algorithms[algorithm].check_key(self.key)
            self.key.check_key_op("verify")
        except JoseError:
            return False
        return True

    def verifies(self, algorithm: str, signing_input: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is by this key, which fits the algorithm."""
        try:
            return JWSRegistry.algorithms[algorithm].verify(signing_input, signature, self.key)
        except (JoseError, ValueError):
            return False


class IssuerKeys:
    """The keys of one issuer. Many may ask at once: they wait for one fetch.

    The issuer is asked again for a key that is not known, or when a signature is bad, at most once in ``cool_down_s``
    seconds, so that made-up tokens cost the issuer nothing. While it does not answer, what it published last is
    believed for ``BELIEVED_S`` seconds.
    """

    LIFETIME_S = 300.0
    COOL_DOWN_S = 10.0
    BELIEVED_S = 24 * 60 * 60.0
    FETCH_TIMEOUT_S = 5.0
    MAX_DOCUMENT_BYTES = 256 * 1024
    """Of each document of an issuer. Reading 1,000 keys takes the event loop 0.1 s; issuers publish a dozen."""

    def __init__(
        self, issuer: str, jwks_uri: str | None, http: httpx2.AsyncClient, *, cool_down_s: float = COOL_DOWN_S
    ) -> None:
        self.issuer = issuer
        self.cool_down_s = cool_down_s
        self._jwks_uri = jwks_uri
        self._http = http
        self._document: Any = None
        self._keys: tuple[PublishedKey, ...] = ()
        self._fetched_at: float | None = None
        self._good_until = 0.0
        self._fetch_again_at = 0.0
        self._fetching: asyncio.Task[None] | None = None
        self._is_out = False

    def is_current(self, key: PublishedKey) -> bool:
        """Whether the issuer still publishes ``key``, as far as is known without asking it."""
        return key in self._keys and time.monotonic() < self._good_until

    async def find(self, kid: str | None) -> Sequence[PublishedKey]:
        """The keys that may have signed a token with this ``kid``; all keys for a token without.

        Raises:
            Unavailable: the issuer's keys cannot be fetched, nor could they within ``BELIEVED_S`` seconds.
        """
        if not self._known(kid) or time.monotonic() >= self._good_until:
            await self._refresh()
        if self._fetched_at is None:
            raise Unavailable("The token's issuer does not answer just now.")
        return self._known(kid)

    async def look_again(self) -> bool:
        """Fetches the keys again, unless that was done lately; whether they have changed."""
        before = self._keys
        await self._refresh()
        return self._keys is not before

    def _known(self, kid: str | None) -> Sequence[PublishedKey]:
        if kid is None:
            return self._keys
        named = [key for key in self._keys if key.kid == kid]
        return named or [key for key in self._keys if key.kid is None]

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
        return await self._get(uri)

    async def _get(self, address: str) -> Any:
        async with self._http.stream("GET", address) as response:
            response.raise_for_status()
            text = bytearray()
            async for part in response.aiter_bytes():
                text += part
                if len(text) > self.MAX_DOCUMENT_BYTES:
                    raise ValueError(f"{address} has more than {self.MAX_DOCUMENT_BYTES} bytes")
        return json.loads(text)

    async def _discover(self) -> str:
        """The address of the keys, from the issuer's own document (OpenID Connect Discovery 1.0, section 4)."""
        address = self.issuer.rstrip("/") + DISCOVERY_PATH
        document = await self._get(address)
        if document["issuer"] != self.issuer:
            raise ValueError(f"{address} is the document of another issuer: {document['issuer']}")
        uri = str(document["jwks_uri"])
        if not is_safe_address(uri):
            raise ValueError(f"{address} names keys that anybody on the way can change: {uri}")
        return uri

    def _take(self, document: Any) -> None:
        if not isinstance(document["keys"], list):
            raise TypeError("its keys are no list")
        if document != self._document:  # Unchanged keys stay the same objects, so that no token is verified again.
            self._keys = tuple(_readable(document["keys"]))
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
            self._keys, self._document, self._fetched_at = (), None, None
        self._good_until = now + self.cool_down_s


def _readable(published: list[Any]) -> Iterator[PublishedKey]:
    """The keys that can verify a signature; others may stand beside them."""
    for jwk in published:
        try:
            if jwk["kty"] in ASYMMETRIC and jwk.get("use", "sig") == "sig":
                yield PublishedKey(jwk.get("kid"), import_key(jwk))
        except Exception as error:  # Whatever is wrong with one key, the others are still good.
            logger.warning("a published key cannot be read: %s: %s", type(error).__name__, error)
