"""The bridge: the one way from a route to Django's code (ORM, ``atomic``, permissions).

Django is synchronous and keeps a database connection for each thread, so a function of its world runs in a thread of
its own, whose connection goes back when the function returns, and is awaited here. Call nothing else of Django from
here: its own asynchronous methods would all share one thread and one connection, which is never closed.

The rule: **one request writes through one layer.** The two have a connection each, so neither sees what the other has
not committed, nor rolls it back, and on SQLite the second writer waits for the first in vain. A use case that writes
through Django does it in one function with ``transaction.atomic`` inside, and writes nothing on ``Database`` itself.

This is the only module of the API that imports Django; add the functions that your routes need below, as coroutines.
"""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from unicodedata import is_normalized

from asgiref.sync import sync_to_async
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import (
    NON_FIELD_ERRORS,
    BadRequest,
    PermissionDenied,
    SuspiciousOperation,
    ValidationError,
)
from django.db import DataError, IntegrityError, OperationalError, connections, transaction
from django.http import Http404

from fastapi_app.core import errors
from fastapi_app.core.errors import (
    DATABASE_UNAVAILABLE,
    AppError,
    Forbidden,
    Invalid,
    NotFound,
    Unavailable,
    json_pointer,
)
from project.addresses import InvalidAddress, looked_up

logger = logging.getLogger(__name__)


async def call_django[**P, T](function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``function`` returns, run in a thread and on a connection of its own; what it raises is raised here.

    What Django has a status for becomes a problem (see ``_as_problem``).

    Whoever is cancelled meanwhile does not stop it: it runs to its end, and so does its transaction. Return plain
    values or objects whose fields are loaded: a lazy query would run in the event loop, where Django refuses it.
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="django")
    try:
        call = sync_to_async(_with_own_connections, thread_sensitive=False, executor=thread)
        return await call(partial(function, *args, **kwargs))
    except (PermissionDenied, Http404, ValidationError, BadRequest, SuspiciousOperation, OperationalError) as error:
        raise _as_problem(error) from error
    finally:
        thread.shutdown(wait=False)  # It ends after its call.


def _with_own_connections[T](function: Callable[[], T]) -> T:
    try:
        return function()
    finally:
        connections.close_all()


def _as_problem(error: Exception) -> AppError:
    """What of Django's errors a client is told: the status that Django's own handler would have given it."""
    match error:
        case PermissionDenied():
            return Forbidden(str(error) or None)
        case Http404():
            return NotFound(str(error) or None)
        case ValidationError():
            return Invalid([{"detail": text, "pointer": json_pointer(path)} for path, text in _faults(error)])
        case OperationalError():
            logger.warning("the database is unavailable to Django: %s", error)
            return Unavailable(DATABASE_UNAVAILABLE)
    return errors.BadRequest()


def _faults(error: ValidationError) -> Iterator[tuple[list[str | int], str]]:
    """Where each fault is, and what it is. What is wrong with the whole has no field."""
    if not hasattr(error, "error_dict"):
        yield from (([], text) for text in error.messages)
        return
    for field, texts in error.message_dict.items():
        path: list[str | int] = [] if field == NON_FIELD_ERRORS else [field]
        yield from ((path, text) for text in texts)


async def has_permission(user_id: int, permission: str) -> bool:
    """Whether an active user has a permission of Django's, such as ``accounts.view_user``, by themselves or a group."""
    return await call_django(_has_permission, user_id, permission)


def _has_permission(user_id: int, permission: str) -> bool:
    user = get_user_model().objects.filter(pk=user_id).first()
    return user is not None and user.has_perm(permission)


async def link_external_user(issuer: str, subject: str, email: str, *, may_create: bool) -> None:
    """Link what another issuer calls ``subject`` to the user with this verified e-mail address, who may be made for it.

    Nothing happens when there is no such user and none may be made, when the user is deactivated, or when they are
    staff: control of an address at the other issuer must not make an administrator here by that alone. Nor does
    anything when the address differs from ours by more than case and the domain's encoding: the other issuer may hold
    a fullwidth spelling for another mailbox than the plain one.
    """
    await call_django(_link_external_user, issuer, subject, email, may_create=may_create)


def _link_external_user(issuer: str, subject: str, email: str, *, may_create: bool) -> None:
    users = get_user_model().objects
    identities = apps.get_model("identity", "ExternalIdentity").objects
    if not _is_spelled_out(email):
        return
    # Another request made the same link, or what the issuer says fits no column: whoever asks finds a link or none.
    with suppress(IntegrityError, DataError, InvalidAddress), transaction.atomic():
        user = users.filter(email=email).first()
        if user is None and may_create:
            user = users.create_user(email)
        if user is not None and user.is_active and not (user.is_staff or user.is_superuser):
            identities.create(issuer=issuer, subject=subject, user=user)


def _is_spelled_out(email: str) -> bool:
    """Whether an address is written as it would be stored, but for case and the domain's encoding."""
    local, at, _domain = email.rpartition("@")
    return bool(at) and is_normalized("NFKC", local) and local.lower() == looked_up(email).rpartition("@")[0]
