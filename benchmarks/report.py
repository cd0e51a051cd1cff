"""From outcomes to figures, a table and a file."""

import json
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import distributions
from typing import Any

from benchmarks.admin import spread
from benchmarks.cases import CASES, CONNECTIONS
from benchmarks.load import Outcome
from benchmarks.servers import PEERS
from benchmarks.world import POOL_SIZE, ROOT

Round = dict[str, dict[str, Outcome]]
SHOWN_PACKAGES = {
    "asyncpg",
    "django",
    "django-bolt",
    "django-ninja",
    "djangorestframework",
    "fastapi",
    "gunicorn",
    "litestar",
    "msgspec",
    "psycopg",
    "sqlalchemy",
    "starlette",
    "uvicorn",
}
SATURATED = 0.85
MOST_NAMED = 8
NOTE = (
    "Ratios are raw's CPU time for a request by the peer's, within one round: CPU time of the server's processes "
    "alone, which a busy neighbour, the load generator and the database disturb least. "
    "throughput_ratios has the same of requests per second."
)


def compare(rounds: list[Round], not_run: dict[str, str]) -> dict[str, Any]:
    """The rounds' outcomes as medians and ranges, of the peers that went through all of them."""
    rounds = [
        {case: {name: one for name, one in by_peer.items() if name not in not_run} for case, by_peer in each.items()}
        for each in rounds
    ]
    return {
        "note": NOTE,
        "ratios": _ratios(rounds, lambda peer, raw: raw.cpu_us / peer.cpu_us),
        "throughput_ratios": _ratios(rounds, lambda peer, raw: peer.per_second / raw.per_second),
        "cpu_to_alone": _to_alone(rounds),
        "requests_per_s": _figures(rounds, lambda outcome: outcome.per_second, 0),
        "cpu_us": _figures(rounds, lambda outcome: outcome.cpu_us, 1),
        "database_cpu_us": _figures(rounds, lambda outcome: outcome.database_cpu_us, 1),
        "server_core_busy": _figures(rounds, lambda outcome: outcome.server_cpu_s / outcome.seconds, 2),
        "load_generator_busy": _figures(rounds, lambda outcome: outcome.load_cpu_s / outcome.seconds, 2),
        "p50_ms": _figures(rounds, lambda outcome: outcome.p50_ms, 2),
        "p99_ms": _figures(rounds, lambda outcome: outcome.p99_ms, 2),
        "noise": {"raw_cpu_spread": _raw_spread(rounds)},
        "not_run": not_run,
    }


def _figures(rounds: list[Round], figure: Callable[[Outcome], float], digits: int) -> dict[str, Any]:
    return {
        case: {name: spread((figure(one[case][name]) for one in rounds), digits) for name in rounds[0][case]}
        for case in rounds[0]
    }


def _ratios(rounds: list[Round], ratio: Callable[[Outcome, Outcome], float]) -> dict[str, Any]:
    return {
        case: {
            name: spread((ratio(one[case][name], one[case]["raw"]) for one in rounds), 3) for name in rounds[0][case]
        }
        for case in rounds[0]
    }


def _to_alone(rounds: list[Round]) -> dict[str, Any]:
    """What the API costs under a root, by what it costs alone, within one round; nothing where they did not all run."""
    return {
        case: {
            name: spread(one[case][name].cpu_us / one[case]["tandem_alone"].cpu_us for one in rounds)
            for name in ("tandem_mounted", "tandem")
        }
        for case in rounds[0]
        if {"tandem_alone", "tandem_mounted", "tandem"} <= rounds[0][case].keys()
    }


def _raw_spread(rounds: list[Round]) -> dict[str, float]:
    """Raw's dearest round by its cheapest: what a difference must exceed to mean something."""
    costs = {case: [one[case]["raw"].cpu_us for one in rounds] for case in rounds[0]}
    return {case: round(max(values) / min(values), 2) for case, values in costs.items()}


def meta(size: str, rows: int, rounds: int) -> dict[str, Any]:
    """What was measured, when and with which versions; nothing that names the machine."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    installed = {one.name.lower(): one.version for one in distributions()}
    return {
        "size": size,
        "rows": rows,
        "rounds": rounds,
        "connections": CONNECTIONS,
        "pool_size": POOL_SIZE,
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "packages": {name: installed[name] for name in sorted(SHOWN_PACKAGES & installed.keys())},
    }


def as_json(results: dict[str, Any]) -> str:
    """The file's content, in an order that keeps differences small."""
    return json.dumps(results, indent=1, sort_keys=True) + "\n"


def table(results: dict[str, Any]) -> str:
    """What ``make bench`` prints."""
    ratios, names = results["ratios"], [peer.name for peer in PEERS if peer.name in results["memory_mb"]]
    lines = ["", "CPU per request, raw = 1 (median of the rounds, and range)", _row("", CASES)]
    lines += [_row(name, [_cell(ratios[case][name]) for case in CASES]) for name in names]
    lines += ["", "Requests per second (median)", _row("", CASES)]
    per_second = results["requests_per_s"]
    lines += [_row(name, [f"{per_second[case][name]['median']:.0f}" for case in CASES]) for name in names]
    lines += ["", f"p99 at {CONNECTIONS} connections, ms (median)", _row("", [*CASES, "memory MB", "connections"])]
    lines += [
        _row(
            name,
            [
                *(f"{results['p99_ms'][case][name]['median']:.1f}" for case in CASES),
                f"{results['memory_mb'][name]:.0f}",
                str(results["connections"][name]),
            ],
        )
        for name in names
    ]
    return "\n".join([*lines, "", *_rest(results), "", *_goals(results)]) + "\n"


def _row(name: str, cells: Any) -> str:
    return f"{name:<14}" + "".join(f"{cell:>19}" for cell in cells)


def _cell(figure: dict[str, float]) -> str:
    return f"{figure['median']:.2f} ({figure['min']:.2f}-{figure['max']:.2f})"


def _goals(results: dict[str, Any]) -> list[str]:
    lines = [f"{'Goals':<48}{'figure':>10}{'goal':>14}"]
    for one in results["goals"]:
        bound = f"<= {one['at_most']:g}" if "at_most" in one else f">= {one['at_least']:g}"
        figure, verdict = (f"{one['figure']:.2f}", "met" if one["met"] else "MISSED") if "met" in one else ("-", "")
        lines.append(f"{one['goal']:<48}{figure:>10}{bound:>14}  {verdict}".rstrip())
    return lines


def _rest(results: dict[str, Any]) -> list[str]:
    isolation, admin, cold = results["isolation"], results["admin"], results["cold_start_s"]
    noise = results["noise"]
    page_ms = admin["tandem"]["cpu_ms_per_page"]["median"]
    lines = [
        f"Admin changelist   {_cell(admin['ratio_to_django'])} of bare Django's speed, {page_ms} ms of CPU a page",
        (
            f"API beside admin   p99 {_cell(isolation['idle']['p99_ms'])} ms idle, "
            f"{_cell(isolation['loaded']['p99_ms'])} ms under {isolation['admin_clients']} admin clients, "
            f"ratio {_cell(isolation['p99_ratio'])}, {isolation['admin_pages_per_s']['median']} admin pages/s"
        ),
        (
            f"Cold start         {_cell(cold['tandem'])} s, bare Django {_cell(cold['django'])} s, ratio "
            f"{_cell(cold['ratio_to_django']['tandem'])}; the libraries alone {_cell(cold['libraries'])} s, "
            f"ratio {_cell(cold['ratio_to_django']['libraries'])}"
        ),
    ]
    for case, by_workers in results["scaling"]["workers"].items():
        rates = ", ".join(f"{count}: {one['per_s']['median']:.0f}/s" for count, one in by_workers.items())
        lines.append(f"Workers, {case:<9} {rates}")
    for case, by_rows in results["scaling"]["rows"].items():
        costs = ", ".join(
            f"{rows} rows: {one['p50_ms']['median']} ms, database {one['database_cpu_us']['median']:.0f} us"
            for rows, one in by_rows.items()
        )
        lines.append(f"Rows, {case:<12} {costs}")
    unsaturated = _not_saturated(results)
    if unsaturated:
        lines.append(f"Not server-bound   {unsaturated}: there requests per second say little, CPU per request holds")
    spreads = ", ".join(f"{case} {value}" for case, value in noise["raw_cpu_spread"].items())
    lines.append(
        f"Noise              dearest round of raw by its cheapest: {spreads} (1 is quiet); other processes used "
        f"{noise['other_cpu_percent']} % of a core, {noise['steal_percent']} % was stolen"
    )
    lines += [f"NOT RUN            {name}: {reason.splitlines()[0]}" for name, reason in results["not_run"].items()]
    return lines


def _not_saturated(results: dict[str, Any]) -> str:
    """Where the server's core was not what limited, so that load generator, database or a neighbour did."""
    cells = [
        f"{name} {case}"
        for case, by_peer in results["server_core_busy"].items()
        for name, busy in by_peer.items()
        if busy["median"] < SATURATED
    ]
    more = f" and {len(cells) - MOST_NAMED} more" if len(cells) > MOST_NAMED else ""
    return ", ".join(cells[:MOST_NAMED]) + more
