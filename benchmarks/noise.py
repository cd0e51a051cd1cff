"""How much else went on in the machine: figures from a busy one are not worth much."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import process_tree
from benchmarks.world import World

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Disturbance:
    """CPU time of the whole machine that was not the benchmark's, as percent of one core, and stolen time."""

    other_cpu_percent: float = 0
    steal_percent: float = 0
    load_average_before: float = field(default_factory=lambda: os.getloadavg()[0])

    def as_dict(self) -> dict[str, float]:
        return {name: round(value, 1) for name, value in vars(self).items()}


@contextlib.contextmanager
def watching(world: World) -> Iterator[Disturbance]:
    """Compares the machine's CPU time with that of this process, its children and the database."""
    disturbance = Disturbance()
    started, busy, stolen, own = time.monotonic(), *_machine(), _own(world)
    yield disturbance
    elapsed = time.monotonic() - started
    busy_now, stolen_now = _machine()
    others = (busy_now - busy) - (_own(world) - own)
    disturbance.other_cpu_percent = max(others, 0) / elapsed * 100
    disturbance.steal_percent = (stolen_now - stolen) / elapsed * 100


def _machine() -> tuple[float, float]:
    """Busy and stolen CPU seconds of all cores since they started."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(value) / TICKS_PER_S for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return user + nice + system + irq + softirq, steal


def _own(world: World) -> float:
    """CPU seconds of the benchmark, with those of children that have ended."""
    total = 0
    for pid in {*process_tree(os.getpid()), *process_tree(world.server_pid)}:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / TICKS_PER_S
