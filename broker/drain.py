"""Saying goodbye to all clients, within a deadline."""

from __future__ import annotations

import logging
from math import ceil
from random import Random

import anyio
import anyio.lowlevel

from .broker import Broker
from .ending import Ending, EndKind
from .errors import UsageError

__all__ = ("drain",)

logger = logging.getLogger("broker")

# How fast clients are sent away: each comes back at once, to another node or to the
# next life of this one (guess: what a small server takes in new connections).
ENDS_PER_S = 1_000
PERIOD_S = 0.05


async def drain(
    broker: Broker, deadline_s: float = 10.0, *, random: Random | None = None
) -> int:
    """Take no new clients, send all away with 1012, and wait until they have gone.

    From its first step on new clients get 503 with ``Retry-After``, and
    ``Broker.is_ready`` is False. What waits in a client's outbox is sent before its
    close frame. Clients are sent away in batches of random size and at random moments,
    about a thousand in a second and all within half of the deadline, so that they do
    not come back in one instant. Publishing goes on until the broker itself is left.

    Call it when the process is told to stop and before the server is: servers tell an
    application only when the sockets have gone. ``broker serve`` does.

    Args:
        deadline_s: longest time for all of it (s, > 0; 10: ``docker stop`` waits so
            long before it kills).
        random: where the jitter comes from; None for a new generator.

    Returns:
        How many clients had not gone at the deadline, because they do not read. Their
        sessions are cut then: nothing waits for them any more.

    Raises:
        UsageError: a deadline out of range, or a broker that was never entered.
        BrokerClosed: the broker has been left already.

    Cancellation: the broker stays as it is then and takes no clients. Call it again to
    send away who is left.
    """
    if not deadline_s > 0:
        raise UsageError(f"deadline_s must be > 0, not {deadline_s!r}")
    random = Random() if random is None else random
    broker.stop_admitting()
    await anyio.lowlevel.checkpoint()
    with anyio.move_on_after(deadline_s):
        await _send_away(broker, deadline_s, random)
        await broker.wait_empty()
    left = broker.sessions()
    for session in left:
        session.cut()
    if left:
        logger.warning("drain: %d clients had not gone in time", len(left))
    return len(left)


async def _send_away(broker: Broker, deadline_s: float, random: Random) -> None:
    sessions = broker.sessions()
    random.shuffle(sessions)
    spread_s = min(len(sessions) / ENDS_PER_S, deadline_s / 2)
    batches = max(1, ceil(spread_s / PERIOD_S))
    size = max(1, ceil(len(sessions) / batches))
    while sessions:
        batch, sessions = sessions[:size], sessions[size:]
        for session in batch:
            session.end(Ending.of(EndKind.SHUTDOWN), flush=True)
        if sessions:
            # Their mean is PERIOD_S.
            await anyio.sleep(PERIOD_S * random.uniform(0.5, 1.5))
