"""Client ID metadata documents: a client whose ``client_id`` is the https address of its metadata. Off by default.

A document is fetched for a user who is signed in and looks at a consent page, and at no other endpoint: nobody
anonymous can make this service call an address. What it says is kept as a ``Client``, and fetched again when it is old.

The toolkit's own resolver (oauth2_provider.cimd) stays switched off: it fetches for anonymous requests, in the token
endpoint's transaction, and no deadline bounds its look-up or the whole answer (docs/decisions/0022-registration.md).
"""

import json
import logging
import re
import threading
import time
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone
from limits import parse

from project.clients.models import Client
from project.clients.registration import (
    InvalidMetadata,
    TooManyClients,
    make_room,
    offered_scopes,
    read_metadata,
)
from project.config import config, is_loopback, is_uri_text
from project.identity.fetching import FetchError, fetch_json
from project.identity.limits import Limit, limiter, network, user
from project.identity.scopes import DESCRIPTIONS
from project.lanes import aside

logger = logging.getLogger(__name__)

MAXIMUM_LENGTH = 255
"""Characters of a client id: the column's."""
FRESH_S, FRESH_AT_LEAST_S, FRESH_AT_MOST_S = 60 * 60, 5 * 60, 24 * 60 * 60
"""How long a document is believed: unless ``Cache-Control: max-age`` says otherwise, and within which bounds."""
STALE_S = 24 * 60 * 60
"""How much longer it is believed while its server does not answer."""
FAILURE_S = 60
"""How long an address is left alone that gave no good document."""
MOST_FAILURES = 256
"""Addresses remembered for that, per process; the oldest makes room."""
MOST_FETCHES = 2
"""Documents fetched at once, per process: each holds a place of Django's lane, and there are few."""

_LIMITS = (
    Limit("client document by", parse("30/hour"), user),
    Limit("client document from", parse("60/hour"), network),
)
_fetches = threading.BoundedSemaphore(MOST_FETCHES)
_failures: dict[str, float] = {}
"""By address, when each may be asked again; by ``time.monotonic``."""
_max_age = re.compile(r"\bmax-age=(\d{1,9})\b", re.ASCII | re.IGNORECASE).search


class DocumentRefused(Exception):
    """No client is behind this address; the message is for the person who looks at the page."""


def is_document_address(client_id: str) -> bool:
    """Whether a ``client_id`` is the address of a document, and well-formed as the draft (section 3) demands.

    It has a path, and neither user information, query, fragment nor dot segments. Plain HTTP is for development, on
    this very machine.
    """
    if len(client_id) > MAXIMUM_LENGTH or not is_uri_text(client_id):
        return False
    try:
        parts = urlsplit(client_id)
        _ = parts.port
    except ValueError:
        return False
    if not (parts.scheme == "https" or (is_loopback(client_id) and not config.is_production)):
        return False
    segments = parts.path.lower().replace("%2e", ".").split("/")
    has_more = any(mark in client_id for mark in "?#") or "@" in parts.netloc
    return bool(parts.hostname) and len(parts.path) > 1 and not has_more and not {".", ".."} & set(segments)


def ensure_client(request: HttpRequest, client_id: str) -> None:
    """See to it that the client of the document at ``client_id`` is known and up to date.

    Raises:
        DocumentRefused: the document cannot be fetched, or says nothing that is good here.
    """
    if not config.client_metadata_documents or not is_document_address(client_id):
        return
    client = Client.objects.filter(client_id=client_id).first()
    if client is not None and (not _is_document(client) or not client.is_active or _age_s(client) < 0):
        return
    try:
        _fetch(request, client_id, client)
    except DocumentRefused:
        if client is None or _age_s(client) > STALE_S:
            raise


def _is_document(client: Client) -> bool:
    return bool(client.registration_source == Client.RegistrationSource.CIMD)


def _age_s(client: Client) -> float:
    """For how long the document has been due; negative while it is fresh."""
    return float((timezone.now() - client.cimd_expires_at).total_seconds())


def _fetch(request: HttpRequest, client_id: str, client: Client | None) -> None:
    if _failures.get(client_id, 0) > time.monotonic():
        raise DocumentRefused("This application's description could not be read a moment ago. Try again in a minute.")
    counted = [(limit, limit.whose(request)) for limit in _LIMITS]
    if not all(limiter().count(limit, whose) for limit, whose in counted if whose is not None):
        raise DocumentRefused("Too many unknown applications were looked up. Try again later.")
    if not _fetches.acquire(blocking=False):
        raise DocumentRefused("Too many applications are being looked up just now. Try again.")
    try:
        with aside():
            fetched = fetch_json(client_id, allow_loopback=not config.is_production)
    except FetchError as error:
        _remember_failure(client_id)
        logger.info("client document %r was not fetched: %r", client_id, str(error))
        raise DocumentRefused("This application's description cannot be read at its address.") from None
    finally:
        _fetches.release()
    try:
        _keep(client_id, client, fetched.body, _fresh_s(fetched.cache_control), network(request))
    except InvalidMetadata as invalid:
        _remember_failure(client_id)
        raise DocumentRefused(f"This application's description is not accepted: {invalid}") from None
    except TooManyClients:
        raise DocumentRefused("Too many applications have registered themselves. Try again later.") from None


def _keep(client_id: str, client: Client | None, body: bytes, fresh_s: int, seen_from: str) -> None:
    """Write what the document says to the client that it describes.

    Raises:
        InvalidMetadata: the document is not this client's, or says what is not offered.
        TooManyClients: the client would be one too many.
    """
    document = _read(client_id, body)
    metadata = read_metadata({"token_endpoint_auth_method": "none", **document}, offered_scopes(list(DESCRIPTIONS)))
    if not metadata.is_public:
        raise InvalidMetadata("A document is public, so token_endpoint_auth_method is none.")
    kept = client or Client(
        client_id=client_id,
        registration_source=Client.RegistrationSource.CIMD,
        registered_from=seen_from,
    )
    kept.cimd_expires_at = timezone.now() + timedelta(seconds=fresh_s)
    metadata.write_to(kept)
    if client is not None:  # An administrator may have stopped or deleted it meanwhile, which is not undone.
        fields = ("name", "redirect_uris", "allowed_scopes", "cimd_expires_at")
        written = {name: getattr(kept, name) for name in fields}
        Client.objects.filter(pk=kept.pk).update(**written, updated=timezone.now())
        return
    try:
        with transaction.atomic():
            make_room()
            kept.save()
    except IntegrityError:
        logger.info("client document %r was kept by another request", client_id)


def _read(client_id: str, body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidMetadata("It is not JSON.") from None
    if not isinstance(document, dict) or document.get("client_id") != client_id:
        raise InvalidMetadata("Its client_id is not its own address.")
    if {"client_secret", "client_secret_expires_at"} & document.keys():
        raise InvalidMetadata("It has a client_secret, which everybody can read.")
    return document


def _fresh_s(cache_control: str) -> int:
    said = _max_age(cache_control)
    return min(max(int(said[1]) if said else FRESH_S, FRESH_AT_LEAST_S), FRESH_AT_MOST_S)


def _remember_failure(client_id: str) -> None:
    if len(_failures) >= MOST_FAILURES:
        _failures.pop(next(iter(_failures)), None)
    _failures[client_id] = time.monotonic() + FAILURE_S
