"""How often somebody may try to sign in: before the views, so that a refused attempt costs next to nothing.

Each limit counts in this process, or with REDIS_URL in all of them together. What is unknown is limited like what is
known, so that a refusal tells nothing about an account.
"""

import hashlib
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import cache

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.utils.deprecation import MiddlewareMixin
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter

from project.config import config
from project.identity.hashers import PasswordsBusy

logger = logging.getLogger(__name__)

BUSY_RETRY_S = 2
"""What a 503 asks of a browser: a few hashes' time."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many attempts in a time, for each value of what ``whose`` finds in the request."""

    name: str
    rate: RateLimitItem
    whose: Callable[[HttpRequest], str]


def network(request: HttpRequest) -> str:
    """The client's address; of IPv6 the /64, which is one household's or one machine's."""
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR") or "")
    except ValueError:
        return "unknown"
    if address.version == 4:  # noqa: PLR2004
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def account(request: HttpRequest) -> str:
    """The e-mail address that was typed, whether anybody has it or not; hashed, because it may be a password."""
    return hashlib.sha256(request.POST.get("username", "").strip().lower().encode()).hexdigest()


def account_from_network(request: HttpRequest) -> str:
    """The address typed, by one client: who guesses from elsewhere locks nobody out."""
    return f"{network(request)} {account(request)}"


def user(request: HttpRequest) -> str:
    """Who is logged in."""
    return str(request.user.pk)


_LOGIN = (
    Limit("login from", parse("30/minute"), network),
    Limit("login as, from", parse("10/5 minutes"), account_from_network),
    Limit("login as", parse("100/hour"), account),
)
_DEVICE_CODE = (
    Limit("device code from", parse("30/minute"), network),
    Limit("device code by", parse("10/minute"), user),
)
_TOKEN = (Limit("token from", parse("600/minute"), network),)

LIMITS = {
    "/accounts/login/": _LOGIN,
    "/admin/login/": _LOGIN,
    "/device/": _DEVICE_CODE,
    "/o/device-authorization/": (Limit("device from", parse("30/minute"), network),),
    "/o/token/": _TOKEN,
    "/o/revoke/": _TOKEN,
    "/o/introspect/": (),
}
"""What is posted where is counted. Introspection is asked by few, and often: only its refusals are."""

REFUSALS = Limit("refused from", parse("60/minute"), network)
"""Wrong secrets, codes and tokens: who guesses is stopped, who knows is not."""
REFUSED = frozenset({401, 403})


class Limiter:
    """Counts in Redis where there is one; while that is away, in this process."""

    def __init__(self, redis_url: str) -> None:
        self._own = SlidingWindowCounterRateLimiter(storage_from_string("memory://"))
        self._shared = SlidingWindowCounterRateLimiter(
            storage_from_string(redis_url, wrap_exceptions=True, socket_timeout=1, socket_connect_timeout=1)
            if redis_url
            else self._own.storage
        )

    def count(self, limit: Limit, whose: str) -> bool:
        """Count an attempt; whether it was still allowed."""
        return self._ask(lambda limiter: limiter.hit(limit.rate, limit.name, whose))

    def allows(self, limit: Limit, whose: str) -> bool:
        """Whether one more would be allowed, without counting it."""
        return self._ask(lambda limiter: limiter.test(limit.rate, limit.name, whose))

    def reset(self) -> None:
        self._own.storage.reset()

    def _ask(self, question: Callable[[SlidingWindowCounterRateLimiter], bool]) -> bool:
        try:
            return question(self._shared)
        except StorageError as error:
            logger.warning("rate limits are counted by each process for itself: %s", error.storage_error)
            return question(self._own)


@cache
def limiter() -> Limiter:
    """The process's one."""
    return Limiter(config.redis_url.get_secret_value())


class SignInLimits(MiddlewareMixin):
    """Django middleware: refuses with 429 what comes too often, and with 503 what waits too long for a hash."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if request.method != "POST" or request.path_info not in LIMITS:
            return self.get_response(request)  # Everything else passes without a hop to a thread.
        return super().__call__(request)

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        exceeded = next(_exceeded(request, LIMITS[request.path_info]), None)
        if exceeded is None:
            return None
        logger.warning("%s: too many attempts (%s)", request.path_info, exceeded.name)
        return _refused(request, exceeded.rate.get_expiry())

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if response.status_code in REFUSED:
            limiter().count(REFUSALS, network(request))
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, PasswordsBusy):
            return None
        logger.warning("%s: too many passwords wait to be hashed", request.path_info)
        return HttpResponse("Too busy just now.", "text/plain", 503, headers={"Retry-After": str(BUSY_RETRY_S)})


def _exceeded(request: HttpRequest, limits: tuple[Limit, ...]) -> Iterator[Limit]:
    yield from (limit for limit in limits if not limiter().count(limit, limit.whose(request)))
    if not limiter().allows(REFUSALS, network(request)):
        yield REFUSALS


def _refused(request: HttpRequest, retry_after_s: int) -> HttpResponse:
    headers = {"Retry-After": str(retry_after_s), "Cache-Control": "no-store"}
    if request.path_info.startswith("/o/"):
        error = {"error": "temporarily_unavailable", "error_description": "Too many requests. Try again later."}
        return JsonResponse(error, status=429, headers=headers)
    response = render(request, "identity/too_many.html", status=429)
    for name, value in headers.items():
        response[name] = value
    return response
