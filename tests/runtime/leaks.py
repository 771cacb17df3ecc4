"""Whether anything is left of ten thousand clients."""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

import anyio

from broker import Broker, MemoryBackplane

__all__ = ("AT_ONCE", "SESSIONS", "census", "check_census", "check_empty")

SESSIONS = 10_000
AT_ONCE = 500


def check_empty(broker: Broker, backplane: MemoryBackplane, sessions: int) -> None:
    """Of what came and went, nothing is known any more."""
    now = broker.statistics()
    assert now.sessions == now.topics == now.queued_bytes == now.leaving == 0
    assert sum(now.totals.ended.values()) == sessions
    core = broker._core()
    assert not core.owners
    assert not core.relay._interests
    assert not core.relay.registry._patterns
    assert backplane.topic_count == 0
    assert len(backplane._presence) == 0


def check_census(tracked: Counter[str], after: Counter[str]) -> None:
    kinds = (
        "Session",
        "Actor",
        "Subscriber",
        "Wakeup",
        "Message",
        "Task",
        "_Client",
        "Channels",
        "DeltaEncoder",
        "Rules",
    )
    for name in kinds:
        left = f"{name}: {after[name]}, and {tracked[name]} after the first of them"
        assert after[name] <= tracked[name] + 5, left


async def census() -> Counter[str]:
    """Count what is alive of each type, once the dust has settled."""
    await anyio.wait_all_tasks_blocked()
    gc.collect()
    kinds: Any = (type(each).__name__ for each in gc.get_objects())
    return Counter(kinds)
