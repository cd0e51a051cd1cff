"""What the product promises of its speed, held against one run's results."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

Results = dict[str, Any]
WORK = ("get", "page", "create")
"""The cases that goals are about: what most of an API's requests are like."""


@dataclass(frozen=True)
class Goal:
    """A figure of ``latest.json``, or of two, and what it must reach."""

    name: str
    bound: float
    figure: Callable[[Results], float]
    is_ceiling: bool = False
    """Whether the figure may at most be the bound; it must otherwise be at least that."""

    def judge(self, results: Results) -> dict[str, Any]:
        """As it stands in ``latest.json``; without ``met`` where a peer that it takes was not measured."""
        verdict: dict[str, Any] = {"goal": self.name, ("at_most" if self.is_ceiling else "at_least"): self.bound}
        try:
            figure = self.figure(results)
        except KeyError:
            return verdict
        is_met = figure <= self.bound if self.is_ceiling else figure >= self.bound
        return verdict | {"figure": round(figure, 3), "met": is_met}


def _to_raw(results: Results, case: str, name: str = "tandem") -> float:
    ratio: float = results["ratios"][case][name]["median"]
    return ratio


def _faster_than(case: str, *names: str) -> Callable[[Results], float]:
    return lambda results: _to_raw(results, case) / max(_to_raw(results, case, name) for name in names)


def _slowest_case(*names: str) -> Callable[[Results], float]:
    return lambda results: min(_faster_than(case, *names)(results) for case in WORK)


def _p99_of_get(results: Results) -> float:
    by_peer = results["p99_ms"]["get"]
    ratio: float = by_peer["tandem"]["median"] / by_peer["raw"]["median"]
    return ratio


def _deep_page(results: Results) -> float:
    cost: float = results["cpu_us"]["deep"]["tandem"]["median"] / results["cpu_us"]["page"]["tandem"]["median"]
    return cost


def _composing(results: Results) -> float:
    return median(results["cpu_to_alone"][case]["tandem_mounted"]["median"] for case in WORK)


GOALS = (
    Goal("get one, full product, to raw", 0.60, lambda results: _to_raw(results, "get")),
    Goal("page of 50, to raw", 0.65, lambda results: _to_raw(results, "page")),
    Goal("create, to raw", 0.45, lambda results: _to_raw(results, "create")),
    Goal("django-bolt, where it is nearest", 1.0, _slowest_case("bolt")),
    Goal("FastAPI + SQLAlchemy, get", 3.5, _faster_than("get", "fastapi")),
    Goal("FastAPI + SQLAlchemy, page", 3.0, _faster_than("page", "fastapi")),
    Goal("FastAPI + SQLAlchemy, create", 3.0, _faster_than("create", "fastapi")),
    Goal("the better DRF, where it is nearest", 5.0, _slowest_case("drf", "drf_threads")),
    Goal("Django Ninja, where it is nearest", 5.0, _slowest_case("ninja")),
    Goal("p99 of get at 32 connections, to raw's", 1.5, _p99_of_get, is_ceiling=True),
    Goal("root and mount, to the API alone", 1.08, _composing, is_ceiling=True),
    Goal("deep page, to the first", 1.2, _deep_page, is_ceiling=True),
    Goal(
        "p99 of the API beside 4 admin clients, to idle",
        3.0,
        lambda results: results["isolation"]["p99_ratio"]["median"],
        is_ceiling=True,
    ),
    Goal(
        "cold start, to bare Django with its admin",
        1.5,
        lambda results: results["cold_start_s"]["ratio_to_django"]["tandem"]["median"],
        is_ceiling=True,
    ),
    Goal("memory after the load, MB", 140, lambda results: results["memory_mb"]["tandem"], is_ceiling=True),
)


def judge(results: Results) -> list[dict[str, Any]]:
    """Every goal with its figure, and whether it is met."""
    return [goal.judge(results) for goal in GOALS]
