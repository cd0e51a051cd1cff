"""How the interpreter is set up to serve: two settings, each with its reason."""

import gc
import sys

SWITCH_INTERVAL_S = 0.001
"""How long a busy Django thread keeps the interpreter while the API's event loop asks for it: Python's own 5 ms cost
the API most of its latency, half a millisecond cost more in switching than it gave (docs/decisions/0005-lanes.md)."""


def tune_interpreter() -> None:
    """Hand over quickly between threads, and never search what start-up made for garbage: it stays."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.freeze()
