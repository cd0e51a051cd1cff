"""What is asked of every peer: the cases, as plans for the load generator."""

import random
import subprocess
import sys
from dataclasses import asdict, replace
from json import dumps, loads

from benchmarks.conformance import PAGE, cursor_after
from benchmarks.load import Outcome, Plan, Request
from benchmarks.servers import Server
from benchmarks.world import ROOT, BenchmarkError, World

CASES = ("ping", "get", "page", "deep", "create", "patch")
CONNECTIONS = 32
DEEP_PAGE = 10_000
IDS = 2_000
"""Different users that are asked for or changed in turn, spread over the whole table."""


def requests_of(case: str, server: Server, world: World, token: str, rows: int) -> list[Request]:
    """The requests of a case, to be sent in a cycle."""
    users, headers = server.peer.users, {"Authorization": f"Bearer {token}"}
    ids = random.Random(4).sample(range(2, rows), IDS)  # noqa: S311  The same ids for every peer, not a secret.
    match case:
        case "ping":
            return [Request("GET", server.peer.ping)]
        case "get":
            return [Request("GET", f"{users}/{number}", headers) for number in ids]
        case "page":
            return [Request("GET", f"{users}?limit={PAGE}", headers)]
        case "deep":
            cursor = cursor_after(deep_id(rows), server, world)
            return [Request("GET", f"{users}?limit={PAGE}&cursor={cursor}", headers)]
        case "create":
            body = '{"email": "new{n}@example.com", "display_name": "A new user"}'
            return [Request("POST", users, headers, body, expect=201)]
        case "patch":
            body = '{"display_name": "Changed {n}"}'
            return [Request("PATCH", f"{users}/{number}", headers, body) for number in ids]
    raise ValueError(case)


def deep_id(rows: int) -> int:
    """The id before the 10,000th page; in a table with fewer rows, before its last page."""
    return min(PAGE * DEEP_PAGE, rows - 2 * PAGE)


def plan_for(case: str, server: Server, world: World, token: str, rows: int) -> Plan:
    """A case at 32 connections, with the CPU time of server and database watched."""
    return Plan(
        port=server.port,
        requests=requests_of(case, server, world, token, rows),
        connections=CONNECTIONS,
        server_pid=server.pid,
        database_pid=world.server_pid,
    )


_runs = 0


def run(plan: Plan) -> Outcome:
    """Run the load generator in a process of its own.

    Raises:
        BenchmarkError: a response was not what was expected, or none came.
    """
    return finish(start(plan))


def start(plan: Plan) -> "subprocess.Popen[str]":
    """Start the load generator; ``finish`` waits for it."""
    global _runs  # noqa: PLW0603  Numbers the runs, so that no two create the same user.
    _runs += 1
    process = subprocess.Popen(
        [sys.executable, "-E", "-S", "-m", "benchmarks.load"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if process.stdin is None:
        raise BenchmarkError("no pipe to the load generator")
    process.stdin.write(dumps(asdict(replace(plan, tag=f"{_runs}x"))))
    process.stdin.close()
    return process


def finish(process: "subprocess.Popen[str]") -> Outcome:
    """What the load generator saw. Raises what ``run`` does."""
    output = process.stdout.read() if process.stdout else ""
    if process.wait() or not output:
        raise BenchmarkError("the load generator failed")
    outcome = Outcome(**loads(output))
    if outcome.errors:
        raise BenchmarkError(f"{outcome.errors} errors under load, the first: {outcome.first_error}")
    if not outcome.requests:
        raise BenchmarkError("no answer within the window")
    return outcome
