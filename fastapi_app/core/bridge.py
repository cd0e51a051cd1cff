"""The bridge: the one way from a route to Django's code (ORM, ``atomic``, permissions).

Django is synchronous and keeps a database connection for each thread, so a function of its world runs in the request's
own Django thread (``project.middleware.DjangoThread``), with that thread's connection, and is awaited here.

The rule: **one request writes through one layer.** The two have a connection each, so neither sees what the other has
not committed, nor rolls it back, and on SQLite the second writer waits for the first in vain. A use case that writes
through Django does it in one function with ``transaction.atomic`` inside, and writes nothing on ``Database`` itself.

This is the only module of the API that imports Django; add the functions that your routes need below, as coroutines.
"""

import logging
from collections.abc import Callable, Iterator

from asgiref.sync import SyncToAsync, sync_to_async
from django.contrib.auth import get_user_model
from django.core.exceptions import (
    NON_FIELD_ERRORS,
    BadRequest,
    PermissionDenied,
    SuspiciousOperation,
    ValidationError,
)
from django.db import OperationalError
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

logger = logging.getLogger(__name__)


async def call_django[**P, T](function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``function`` returns, run in the request's Django thread; what it raises is raised here.

    What Django has a status for becomes a problem (see ``_as_problem``).

    Calls of one request run one after the other, those of different requests beside each other. Return plain values
    or objects whose fields are loaded: a lazy query would run in the event loop, where Django refuses it.

    Raises:
        RuntimeError: no request is being served here, or the request that started this task is over.
    """
    if SyncToAsync.thread_sensitive_context.get(None) is None:
        raise RuntimeError(
            "there is no Django thread here, so this call would share one connection with every other: "
            "call it while a request is served, behind project.middleware.DjangoThread, "
            "or enter asgiref.sync.ThreadSensitiveContext around it and close the connections afterwards"
        )
    try:
        return await sync_to_async(function, thread_sensitive=True)(*args, **kwargs)
    except (PermissionDenied, Http404, ValidationError, BadRequest, SuspiciousOperation, OperationalError) as error:
        raise _as_problem(error) from error


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
