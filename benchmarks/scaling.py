"""How the product scales: with workers, with rows, and what PostgreSQL does for each of its queries."""

import http.client
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import psycopg

from benchmarks.admin import TANDEM, spread
from benchmarks.cases import plan_for, requests_of, run
from benchmarks.conformance import PAGE
from benchmarks.load import Outcome, Plan, Request, process_tree
from benchmarks.servers import CORES, Server, serving
from benchmarks.world import World

QUERY_PARAMETERS = {
    "filter": ("is_active", "true"),
    "search": ("search", "user77"),
    "search_q": ("q", "user77"),
}
"""Asked for when the product's list of users documents the parameter."""


def measure(world: World, token: str, sizes: dict[str, int], *, seconds: float, rounds: int) -> dict[str, Any]:
    """All three, as they stand in ``latest.json``."""
    return {
        "workers": workers(world, token, sizes["large"], seconds, rounds),
        "rows": rows(world, token, sizes, seconds, rounds),
        "explain": explain(world, token, sizes["large"]),
    }


def workers(world: World, token: str, table_rows: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Throughput with one worker and two, nothing pinned. On two cores the load and the database take their share."""
    found: dict[str, Any] = {}
    with all_cores(world):
        for count in (1, 2):
            with serving(TANDEM, world, "large", options=("--workers", str(count)), cores=set(CORES)) as server:
                for case in ("get", "page", "create"):
                    plan = replace(plan_for(case, server, world, token, table_rows), seconds=seconds)
                    outcomes = [run(plan) for _ in range(rounds)]
                    found.setdefault(case, {})[str(count)] = {
                        "per_s": spread((outcome.per_second for outcome in outcomes), 0),
                        "server_cpu_us": spread((outcome.cpu_us for outcome in outcomes), 0),
                        "database_cpu_us": spread((outcome.database_cpu_us for outcome in outcomes), 0),
                        "p99_ms": spread((outcome.p99_ms for outcome in outcomes), 1),
                    }
    return found


@contextmanager
def all_cores(world: World) -> Iterator[None]:
    """Let the load generator and the database run anywhere."""
    pids = [0, *process_tree(world.server_pid)]
    before = os.sched_getaffinity(0)
    _pin(pids, set(CORES))
    try:
        yield
    finally:
        _pin(pids, before)


def _pin(pids: list[int], cores: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # A connection's process has ended; new ones are as their parent is.
            os.sched_setaffinity(pid, cores)


def rows(world: World, token: str, sizes: dict[str, int], seconds: float, rounds: int) -> dict[str, Any]:
    """The same requests on a small table and on a large one: what they cost the server and the database."""
    outcomes: dict[str, dict[str, list[Outcome]]] = {}
    with serving(TANDEM, world, "small") as small, serving(TANDEM, world, "large") as large:
        servers = {"small": small, "large": large}
        cases = ("get", "page", "deep", *queries(large))
        for _ in range(rounds):
            for case in cases:
                for name, server in servers.items():
                    plan = replace(_plan(case, server, world, token, sizes[name]), connections=4, seconds=seconds)
                    outcomes.setdefault(case, {}).setdefault(name, []).append(run(plan))
    return {
        case: {
            str(sizes[name]): {
                "p50_ms": spread(outcome.p50_ms for outcome in runs),
                "server_cpu_us": spread((outcome.cpu_us for outcome in runs), 0),
                "database_cpu_us": spread((outcome.database_cpu_us for outcome in runs), 0),
            }
            for name, runs in by_size.items()
        }
        for case, by_size in outcomes.items()
    }


def queries(server: Server) -> dict[str, str]:
    """The filters and searches that the product's list documents, as query strings."""
    document = json.loads(_get(server, f"{server.peer.users.removesuffix('/users')}/openapi.json"))
    operation = document["paths"]["/users"]["get"]
    known = {parameter["name"] for parameter in operation.get("parameters", [])}
    return {case: f"{name}={value}" for case, (name, value) in QUERY_PARAMETERS.items() if name in known}


def _requests(case: str, server: Server, world: World, token: str, table_rows: int) -> list[Request]:
    if case in QUERY_PARAMETERS:
        path = f"{server.peer.users}?limit={PAGE}&{queries(server)[case]}"
        return [Request("GET", path, {"Authorization": f"Bearer {token}"})]
    return requests_of(case, server, world, token, table_rows)


def _plan(case: str, server: Server, world: World, token: str, table_rows: int) -> Plan:
    requests = _requests(case, server, world, token, table_rows)
    return replace(plan_for("get", server, world, token, table_rows), requests=requests)


def explain(world: World, token: str, table_rows: int) -> dict[str, Any]:
    """What the product sends for each request, as PostgreSQL's log has it, and the plan of each statement."""
    watched = replace(TANDEM, name="tandem_watched")
    world.make_role(watched.name)
    with psycopg.connect(world.server_url, autocommit=True) as connection:
        connection.execute("ALTER ROLE tandem_watched SET log_min_duration_statement = 0")
    found: dict[str, Any] = {}
    with serving(watched, world, "large") as server:
        for case in ("get", "page", "deep", *queries(server), "create", "patch"):
            request = _requests(case, server, world, token, table_rows)[0]
            _send(server, request, "warm")  # The first may look up types.
            before = world.log.stat().st_size
            _send(server, request, "seen")
            statements = _statements(world.log.read_text(errors="replace")[before:])
            found[case] = [{"sql": sql, "plan": _plan_of(world, sql, parameters)} for sql, parameters in statements]
    return found


def _send(server: Server, request: Request, number: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        body = request.body.replace("{n}", number) if request.body else None
        headers = request.headers | ({"Content-Type": "application/json"} if body else {})
        connection.request(request.method, request.path, body=body, headers=headers)
        connection.getresponse().read()
    finally:
        connection.close()


def _get(server: Server, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


_ENTRY = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+ .*?(LOG|DETAIL|STATEMENT|ERROR|HINT|WARNING): +", re.MULTILINE)
_EXECUTED = re.compile(r"duration: [\d.]+ ms +(?:execute [^:]+|statement): ", re.DOTALL)
_PARAMETER = re.compile(r"\$\d+ = ('(?:[^']|'')*'|NULL)")


def _statements(log: str) -> list[tuple[str, list[str]]]:
    """Each executed statement with its parameters as SQL literals."""
    starts = [*_ENTRY.finditer(log)]
    ends = [entry.start() for entry in starts[1:]] + [len(log)]
    statements: list[tuple[str, list[str]]] = []
    is_execution = False
    for entry, end in zip(starts, ends, strict=True):
        text = log[entry.end() : end].strip()
        if entry[1] == "LOG":
            executed = _EXECUTED.match(text)
            is_execution = executed is not None
            if executed:
                statements.append((text[executed.end() :], []))
        elif entry[1] == "DETAIL" and is_execution and statements:
            statements[-1][1].extend(_PARAMETER.findall(text))
    return statements


def _plan_of(world: World, sql: str, parameters: list[str]) -> list[str]:
    """``EXPLAIN (ANALYZE, BUFFERS)`` of a statement; what it changes is rolled back. An INSERT is only planned.

    BEGIN, COMMIT and the like have no plan; each is a round trip all the same.
    """
    if not sql.lstrip().upper().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
        return []
    options = "BUFFERS" if sql.lstrip().upper().startswith("INSERT") else "ANALYZE, BUFFERS"
    arguments = f"({', '.join(parameters)})" if parameters else ""
    with psycopg.connect(world.url("large")) as connection, psycopg.ClientCursor(connection) as cursor:
        cursor.execute("PREPARE kept AS " + sql)
        cursor.execute(f"EXPLAIN ({options}) EXECUTE kept{arguments}")
        plan = [str(row[0]) for row in cursor.fetchall()]
        connection.rollback()
    return plan
