"""``make bench``: set up the world, check that all peers answer alike, time them, and write the results."""

import argparse
import os
import random
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import admin, chart, goals, noise, report, scaling, static
from benchmarks.cases import CASES, deep_id, finish, plan_for, run, start
from benchmarks.conformance import Tokens, check, cursor_after
from benchmarks.load import Outcome
from benchmarks.servers import CORES, DJANGO, LOAD_CORES, PEERS, Server, serving
from benchmarks.world import BenchmarkError, World, open_world

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    name: str
    large_rows: int
    rounds: int
    warmup_s: float
    seconds: float
    admin_rounds: int
    admin_s: float
    isolation_s: float
    """Of each half of a round: idle, and beside the admin."""
    cold_starts: int


FULL = Size("full", 1_000_000, 5, 0.25, 1.0, 3, 2.5, 5, 5)
QUICK = Size("quick", 50_000, 2, 0.1, 0.3, 1, 1, 2, 1)
SMALL_ROWS = 10_000


def main() -> int:
    """The command; its exit status is 1 when a peer could not take part."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a smoke run: two minutes, and figures that say little")
    arguments.add_argument("--peers", help="only these, comma-separated; raw is always among them")
    options = arguments.parse_args()
    if len(CORES) < 2:  # noqa: PLR2004  One for the server, one for the load.
        sys.stderr.write("the benchmark needs two cores: one for the server, one for load and database\n")
        return 2
    size = QUICK if options.quick else FULL
    wanted = set(options.peers.split(",")) | {"raw"} if options.peers else {peer.name for peer in PEERS}
    started = time.monotonic()
    results = measure(size, wanted)
    results["meta"]["minutes"] = round((time.monotonic() - started) / 60, 1)
    write(results)
    sys.stdout.write(report.table(results))
    return 1 if results["not_run"] else 0


def write(results: dict[str, Any]) -> None:
    """Keep the figures and the chart."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(report.as_json(results))
    (RESULTS / "chart.svg").write_text(chart.draw(results))


def measure(size: Size, wanted: set[str]) -> dict[str, Any]:
    """Everything, as it stands in ``latest.json``."""
    os.sched_setaffinity(0, LOAD_CORES)  # Inherited by the database and by the load generator.
    say("starting PostgreSQL, migrating, filling the tables")
    with open_world() as world, noise.watching(world) as disturbance:
        for peer in (*PEERS, DJANGO):
            world.make_role(peer.name)
        with static.collected(world):
            world.make_database("large", size.large_rows)
            world.make_database("small", SMALL_ROWS)
        tokens = Tokens.issued_by(world)
        world.share_keys()
        results = timed(size, wanted, world, tokens)
        say("admin pages")
        results["admin"] = admin.changelist(world, rounds=size.admin_rounds, seconds=size.admin_s)
        say("isolation")
        results["isolation"] = admin.isolation(
            world, tokens.good, rows=SMALL_ROWS, rounds=size.admin_rounds, seconds=size.isolation_s
        )
        say("cold starts")
        results["cold_start_s"] = admin.cold_starts(world, size.cold_starts)
        say("scaling")
        sizes = {"small": SMALL_ROWS, "large": size.large_rows}
        results["scaling"] = scaling.measure(world, tokens.good, sizes, seconds=size.seconds, rounds=size.admin_rounds)
    results["noise"] |= disturbance.as_dict()
    results["meta"] = report.meta(size.name, size.large_rows, size.rounds)
    results["goals"] = goals.judge(results)
    return results


def timed(size: Size, wanted: set[str], world: World, tokens: Tokens) -> dict[str, Any]:
    """The peers side by side: all run, one at a time is under load, round after round."""
    not_run: dict[str, str] = {}
    with ExitStack() as stack:
        servers: list[Server] = []
        reference: dict[str, Any] = {}
        for peer in PEERS:
            if peer.name not in wanted:
                continue
            try:
                server = stack.enter_context(serving(peer, world, "large"))
                check(server, tokens, reference, cursor_after(deep_id(size.large_rows), server, world))
            except (BenchmarkError, OSError) as error:
                not_run[peer.name] = str(error)
                say(f"{peer.name} does not take part: {error}")
            else:
                servers.append(server)
        if not any(server.peer.name == "raw" for server in servers):
            raise BenchmarkError(f"without raw there is nothing to compare with: {not_run['raw']}")
        rounds = []
        for number in range(size.rounds):
            say(f"round {number + 1} of {size.rounds}")
            rounds.append(_round(servers, size, world, tokens.good, not_run))
            servers = [server for server in servers if server.peer.name not in not_run]
        results = report.compare(rounds, not_run)
        results["memory_mb"] = {server.peer.name: round(server.resident_mb(), 1) for server in servers}
        results["connections"] = {
            server.peer.name: _connections_under_load(server, size, world, tokens.good) for server in servers
        }
    return results


_order = random.Random(4)  # noqa: S311  The same in each run; it is no secret.


def _round(
    servers: list[Server], size: Size, world: World, token: str, not_run: dict[str, str]
) -> dict[str, dict[str, Outcome]]:
    """Every case on every peer. One that fails under load is out, with its reason in ``not_run``.

    raw, which all are measured by, runs before the others and after them. They come in another order in each round and
    case, so that nobody always follows the same.
    """
    (raw,) = (server for server in servers if server.peer.name == "raw")
    others = [server for server in servers if server is not raw]
    outcomes: dict[str, dict[str, Outcome]] = {case: {} for case in CASES}
    for case in CASES:
        _order.shuffle(others)
        for server in (raw, *others, raw):
            name = server.peer.name
            if name in not_run:
                continue
            plan = plan_for(case, server, world, token, size.large_rows)
            try:
                outcome = run(replace(plan, warmup_s=size.warmup_s, seconds=size.seconds))
            except BenchmarkError as error:
                if server is raw:
                    raise
                not_run[name] = f"{case}: {error}"
                say(f"{name} is out: {not_run[name]}")
                continue
            before = outcomes[case].get(name)
            outcomes[case][name] = outcome if before is None else before.joined(outcome)
    return outcomes


def _connections_under_load(server: Server, size: Size, world: World, token: str) -> int:
    """Database connections that a peer holds in the middle of a run."""
    running = start(replace(plan_for("get", server, world, token, size.large_rows), seconds=size.seconds))
    time.sleep(0.3 + size.seconds / 2)
    held = server.connections(world)
    finish(running)
    return held


def say(line: str) -> None:
    """Tell who waits where the run is."""
    sys.stderr.write(f"bench: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
