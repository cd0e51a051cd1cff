"""The admin beside the API: its own speed, what it does to the API's latency, and how soon either answers."""

import http.client
import re
import statistics
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from benchmarks.cases import finish, plan_for, run, start
from benchmarks.load import Outcome, Plan, Request
from benchmarks.servers import DJANGO, LIBRARIES, PEERS, Server, serving
from benchmarks.world import ADMINISTRATOR, BenchmarkError, World

TANDEM = next(peer for peer in PEERS if peer.name == "tandem")
CHANGELIST = "/admin/accounts/user/"
LOGIN = "/admin/login/"
CLIENTS = 4
API_RATE = 200


def spread(values: Iterable[float], digits: int = 2) -> dict[str, float]:
    """The median and the range."""
    values = list(values)
    return {
        name: round(value, digits)
        for name, value in (("median", statistics.median(values)), ("min", min(values)), ("max", max(values)))
    }


def log_in(server: Server, world: World) -> str:
    """Log in as a person does, with the form; the cookies to send from then on."""
    cookies: dict[str, str] = {}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        page = _exchange(connection, "GET", LOGIN, cookies)
        field = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        if field is None:
            raise BenchmarkError(f"{server.peer.name}: no form at {LOGIN}")
        form = {"csrfmiddlewaretoken": field[1], "username": ADMINISTRATOR, "password": world.password}
        _exchange(connection, "POST", LOGIN, cookies, urlencode(form | {"next": CHANGELIST}))
        if "result_list" not in _exchange(connection, "GET", CHANGELIST, cookies):
            raise BenchmarkError(f"{server.peer.name}: the users' changelist is not there after the login")
    finally:
        connection.close()
    return _header(cookies)


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, cookies: dict[str, str], form: str | None = None
) -> str:
    headers = {"Cookie": _header(cookies)} | (
        {"Content-Type": "application/x-www-form-urlencoded"} if form is not None else {}
    )
    connection.request(method, path, body=form, headers=headers)
    response = connection.getresponse()
    for line in response.headers.get_all("Set-Cookie", []):
        name, _, value = line.partition(";")[0].partition("=")
        cookies[name] = value
    return response.read().decode()


def _header(cookies: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


def _pages(server: Server, world: World, seconds: float, warmup_s: float = 0.5) -> Plan:
    """Four people who reload the users' changelist as soon as they have it."""
    request = Request("GET", CHANGELIST, {"Cookie": log_in(server, world)})
    return Plan(
        port=server.port,
        requests=[request],
        connections=CLIENTS,
        warmup_s=warmup_s,
        seconds=seconds,
        server_pid=server.pid,
        database_pid=world.server_pid,
    )


def changelist(world: World, *, rounds: int, seconds: float) -> dict[str, Any]:
    """The users' changelist of Tandem, and of bare Django on ASGI with the same admin."""
    outcomes: dict[str, list[Outcome]] = {TANDEM.name: [], DJANGO.name: []}
    with serving(TANDEM, world, "small") as tandem, serving(DJANGO, world, "small") as django:
        for _ in range(rounds):
            for server in (tandem, django):
                outcomes[server.peer.name].append(run(_pages(server, world, seconds)))
    pairs = zip(outcomes[TANDEM.name], outcomes[DJANGO.name], strict=True)
    return {
        name: {
            "pages_per_s": spread(outcome.per_second for outcome in runs),
            "cpu_ms_per_page": spread(outcome.cpu_us / 1e3 for outcome in runs),
            "p99_ms": spread((outcome.p99_ms for outcome in runs), 1),
        }
        for name, runs in outcomes.items()
    } | {"ratio_to_django": spread(django.cpu_us / tandem.cpu_us for tandem, django in pairs)}


def isolation(world: World, token: str, *, rows: int, rounds: int, seconds: float) -> dict[str, Any]:
    """The latency of the API's get at 200 a second: alone, and while four people reload a heavy admin page."""
    idle, loaded, pages = list[Outcome](), list[Outcome](), list[Outcome]()
    with serving(TANDEM, world, "small") as server:
        api = replace(plan_for("get", server, world, token, rows), rate=API_RATE, warmup_s=1, seconds=seconds)
        for _ in range(rounds):
            idle.append(run(api))
            people = start(replace(_pages(server, world, seconds + 2), warmup_s=0.5))
            time.sleep(0.5)
            loaded.append(run(api))
            pages.append(finish(people))
    return {
        "rate_per_s": API_RATE,
        "admin_clients": CLIENTS,
        "idle": _latency(idle),
        "loaded": _latency(loaded),
        "admin_pages_per_s": spread((outcome.per_second for outcome in pages), 1),
        "p99_ratio": spread(beside.p99_ms / alone.p99_ms for beside, alone in zip(loaded, idle, strict=True)),
    }


def _latency(outcomes: list[Outcome]) -> dict[str, dict[str, float]]:
    return {name: spread(getattr(outcome, name) for outcome in outcomes) for name in ("p50_ms", "p99_ms", "max_ms")}


def cold_starts(world: World, times: int) -> dict[str, Any]:
    """From the command to the first 200 of the admin's log-in page, and Tandem's to its first 200 at all.

    ``libraries`` is bare Django again, which imports what the product cannot be without.
    """
    starts = {
        "django": replace(DJANGO, ready=LOGIN),
        "libraries": replace(LIBRARIES, ready=LOGIN),
        "tandem": replace(TANDEM, ready=LOGIN),
        "tandem_healthz": TANDEM,
    }
    seconds: dict[str, list[float]] = {name: [] for name in starts}
    for _ in range(times):
        for name, peer in starts.items():
            started = time.monotonic()
            with serving(peer, world, "small"):
                seconds[name].append(time.monotonic() - started)
    ratios = {
        name: spread(one / django for one, django in zip(values, seconds["django"], strict=True))
        for name, values in seconds.items()
        if name != "django"
    }
    return {name: spread(values) for name, values in seconds.items()} | {"ratio_to_django": ratios}
