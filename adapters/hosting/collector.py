"""Python's garbage collector, told that connections live long."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ("THRESHOLDS", "tuned_collector")

# Cancel scopes are reference cycles, and with the default thresholds full collections,
# each of which walks all connections, take a third of the throughput on trio:
# docs/benchmarks-hypercorn.md.
THRESHOLDS = (100_000, 50, 50)


@contextmanager
def tuned_collector() -> Generator[None, None, None]:
    """Have it look at all connections rarely, for as long as the block runs."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()  # what has been imported stays anyway
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
