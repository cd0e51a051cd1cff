"""How often somebody may try to sign in: before the views, so that a refused attempt costs next to nothing.

Each limit counts in this process, or with REDIS_URL in all of them together. An unknown address is limited like a known
address, so that a refusal tells nothing about an account.

A wrong password counts against where it came from. What an account can take from everywhere together is limited as
well, or many networks could guess at one account; that limit is the one which an attacker can use up to lock the owner
out, so that it does not hold for a device (``project.identity.devices``) or a network that the owner has signed in from
before. A known device has a limit of its own instead, and no limit of others' reaches it. docs/identity.md has the
numbers and what follows from them.
"""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import cache

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.utils.deprecation import MiddlewareMixin
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import Storage, storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter

from project import networks
from project.addresses import LONGEST_TYPED, looked_up
from project.config import config
from project.identity.devices import known_device, remember_device, signed_in
from project.identity.hashers import PasswordsBusy

logger = logging.getLogger(__name__)

BUSY_RETRY_S = 2
"""What a 503 asks of a browser: a few hashes' time."""
NETWORK_KNOWN_S = 30 * 24 * 60 * 60
"""How long a network that an account has signed in from is known. Without Redis, until the process ends."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many attempts in a time, for each value of what ``whose`` finds in the request; None is not limited."""

    name: str
    rate: RateLimitItem
    whose: Callable[[HttpRequest], str | None]


def network(request: HttpRequest) -> str:
    """The client's address; of IPv6 the /64, which is one household's or one machine's."""
    return networks.network(request.META.get("REMOTE_ADDR") or "")


def user(request: HttpRequest) -> str:
    """The user who is logged in."""
    return str(request.user.pk)


@dataclass(frozen=True, slots=True)
class SignIn:
    """The limits of a form that takes a password, by the name of its field for the address."""

    field: str

    def address(self, request: HttpRequest) -> str:
        """The address that was typed, as the sign-in will look it up; whether anybody has it or not."""
        return looked_up(request.POST.get(self.field, ""))[:LONGEST_TYPED]

    def account(self, request: HttpRequest) -> str | None:
        """The account that is tried; hashed, because the address may be a password. None: the form has no address."""
        address = self.address(request)
        return hashlib.sha256(address.encode()).hexdigest() if address else None

    def device(self, request: HttpRequest) -> str | None:
        """The known device of the account that is tried."""
        return known_device(request, self.address(request))

    def stranger(self, request: HttpRequest) -> str | None:
        """The network of a device that the account has not signed in from."""
        return None if self.device(request) else network(request)

    def account_from_network(self, request: HttpRequest) -> str | None:
        """The account, tried from one network by a device that it has not signed in from."""
        account = self.account(request)
        return f"{network(request)} {account}" if account and not self.device(request) else None

    def account_from_unknown(self, request: HttpRequest) -> str | None:
        """The account, tried from a device and a network that it has not signed in from."""
        account = self.account(request)
        if account is None or self.device(request) or limiter().knows(f"{network(request)} {account}"):
            return None
        return account

    @property
    def limits(self) -> tuple[Limit, ...]:
        """In the order in which they are counted: a refused attempt does not count against the limits after it.

        One network is refused long before it has used up what an account can take from everywhere.
        """
        return (
            Limit("sign-in from", parse("30/minute"), self.stranger),
            Limit("sign-in as, from", parse("10/5 minutes"), self.account_from_network),
            Limit("sign-in as, from, for longer", parse("20/hour"), self.account_from_network),
            Limit("sign-in as, by device", parse("10/5 minutes"), self.device),
            Limit("sign-in as, by device, for longer", parse("20/hour"), self.device),
            Limit("sign-in as", parse("100/hour"), self.account_from_unknown),
        )

    def remember(self, request: HttpRequest, response: HttpResponseBase) -> None:
        """Remembers the device and the network of a request with which somebody has signed in."""
        if (who := signed_in(request)) is None:
            return
        remember_device(request, response, who)
        limiter().remember(f"{network(request)} {self.account(request)}")


SIGN_INS = {path: SignIn("username") for path in ("/accounts/login/", "/admin/login/")}
"""The forms that take a password, and the field of each that takes the address."""
_DEVICE_CODE = (
    Limit("device code from", parse("30/minute"), network),
    Limit("device code by", parse("10/minute"), user),
)
_TOKEN = (Limit("token from", parse("600/minute"), network),)

LIMITS: dict[str, tuple[Limit, ...]] = {
    **{path: sign_in.limits for path, sign_in in SIGN_INS.items()},
    "/device/": _DEVICE_CODE,
    "/o/device-authorization/": (Limit("device from", parse("30/minute"), network),),
    "/o/token/": _TOKEN,
    "/o/revoke/": _TOKEN,
    "/o/register/": (Limit("register from", parse("20/hour"), network),),
    "/o/introspect/": (),
}
"""What is posted where is counted. Introspection is asked by few, and often: only its refusals are."""

REFUSALS = Limit("refused from", parse("60/minute"), network)
"""Wrong secrets, codes and tokens: a client that guesses is stopped, a client that knows is not."""
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

    def remember(self, network_of_account: str) -> None:
        """Remember that an account has signed in from a network."""
        self._ask(lambda limiter: bool(_storage(limiter).incr(_known(network_of_account), NETWORK_KNOWN_S)))

    def knows(self, network_of_account: str) -> bool:
        """Whether an account has signed in from a network."""
        return self._ask(lambda limiter: _storage(limiter).get(_known(network_of_account)) > 0)

    def reset(self) -> None:
        self._own.storage.reset()

    def _ask(self, question: Callable[[SlidingWindowCounterRateLimiter], bool]) -> bool:
        try:
            return question(self._shared)
        except StorageError as error:
            logger.warning("rate limits are counted by each process for itself: %s", error.storage_error)
            return question(self._own)


def _storage(limiter: SlidingWindowCounterRateLimiter) -> Storage:
    storage = limiter.storage
    assert isinstance(storage, Storage)  # noqa: S101  And not the one of asyncio.
    return storage


def _known(network_of_account: str) -> str:
    return f"known network/{network_of_account}"


@cache
def limiter() -> Limiter:
    """The process's one."""
    return Limiter(config.redis_url.get_secret_value())


class SignInLimits(MiddlewareMixin):
    """Django middleware: refuses with 429 what comes too often, and with 503 what waits too long for a hash.

    Wrappers of middleware, as APM agents install them, call either protocol, or the hooks alone: each of these asks
    again whether the request is one that is limited.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.async_mode:
            return self.__acall__(request)
        return super().__call__(request)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        if not _is_limited(request):  # It passes without a hop to a thread.
            passed: HttpResponseBase = await self.get_response(request)  # type: ignore[misc]  # It is asynchronous.
            return passed
        response: HttpResponseBase = await super().__acall__(request)
        return response

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        if not _is_limited(request):
            return None
        exceeded = next(_exceeded(request, LIMITS[request.path_info]), None)
        if exceeded is None:
            return None
        logger.warning("%s: too many attempts (%s)", request.path_info, exceeded.name)
        return _refused(request, exceeded.rate.get_expiry())

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not _is_limited(request):
            return response
        if response.status_code in REFUSED:
            limiter().count(REFUSALS, network(request))
        if (sign_in := SIGN_INS.get(request.path_info)) is not None:
            sign_in.remember(request, response)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, PasswordsBusy):
            return None
        logger.warning("%s: too many passwords wait to be hashed", request.path_info)
        return HttpResponse(
            "The server is busy. Try again in a few seconds.",
            "text/plain",
            503,
            headers={"Retry-After": str(BUSY_RETRY_S)},
        )


def _is_limited(request: HttpRequest) -> bool:
    return request.method == "POST" and request.path_info in LIMITS


def _exceeded(request: HttpRequest, limits: tuple[Limit, ...]) -> Iterator[Limit]:
    for limit in limits:
        whose = limit.whose(request)
        if whose is not None and not limiter().count(limit, whose):
            yield limit
    sign_in = SIGN_INS.get(request.path_info)
    is_known = sign_in is not None and sign_in.device(request) is not None
    if not is_known and not limiter().allows(REFUSALS, network(request)):
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
