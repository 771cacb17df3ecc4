"""What all nodes together say about clients and channels: the server API asks it."""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Annotated

import anyio.lowlevel
import msgspec

from .errors import BackplaneError
from .protocol import api
from .topics import is_pattern

if TYPE_CHECKING:
    from .broker import Broker

__all__ = ("answer", "channels", "info")

logger = logging.getLogger("broker")

BREATH = 1_000  # sessions counted before others have their turn (guess: 1 ms)
MAX_ANSWER_CHARS = 1_048_576  # that one node sends another (guess)
TOO_LONG = "too long"

_INFO, _CHANNELS = "info", "channels"
_decode_node = msgspec.json.Decoder(api.NodeInfo).decode
# Up to 2**53, after which JSON's numbers are no longer everybody's.
_Clients = Annotated[int, msgspec.Meta(gt=0, le=2**53)]
_decode_counts = msgspec.json.Decoder(dict[str, _Clients]).decode


def answer(broker: Broker) -> None:
    """Have a broker answer the other nodes."""
    broker.nodes.answer(_INFO, partial(_info, broker))
    broker.nodes.answer(_CHANNELS, partial(_channels, broker))


async def info(broker: Broker) -> list[api.NodeInfo]:
    """Describe every node that answers, this one first.

    What another version says, and cannot be read here, is logged and left out.

    Raises:
        BackplaneError, BrokerClosed, LimitExceeded: as ``Nodes.ask``.
    """
    others = await broker.nodes.ask(_INFO, "")
    nodes = [await describe(broker)]
    for node, found in sorted(others.found.items()):
        try:
            nodes.append(_decode_node(found))
        except ValueError as error:  # msgspec's, and of text that is no UTF-8
            logger.warning(
                "what node %a says of itself cannot be read: %s", node, error
            )
    return nodes


async def channels(broker: Broker, pattern: str) -> dict[str, int]:
    """Count the clients of each channel over all nodes, by name.

    Args:
        pattern: a glob of channels.

    Raises:
        ApiError: a pattern that cannot be read, or a node has more than it can send.
        BackplaneError: a node has not answered, or what cannot be read.
        BrokerClosed, LimitExceeded: as ``Nodes.ask``.
    """
    counts = await _count(broker, pattern)
    others = await broker.nodes.ask(_CHANNELS, pattern)
    if others.missing:
        raise BackplaneError(f"nodes that have not answered: {len(others.missing)}")
    for node, found in others.found.items():
        if found == TOO_LONG:
            raise api.bad_request("too many channels on one node: give a pattern")
        try:
            counts.update(_decode_counts(found))
        except ValueError as error:  # msgspec's, and of text that is no UTF-8
            raise BackplaneError(f"node {node!a} counts otherwise: {error}") from error
    return counts


async def describe(broker: Broker) -> api.NodeInfo:
    """Return this node's numbers."""
    survey = await _survey(broker)
    users = {user for user, _ in survey if user is not None}
    node = broker.nodes.id
    return api.NodeInfo(
        uid=node,
        name=broker.nodes.name or f"node-{node[:8]}",
        version=broker.nodes.version,
        num_clients=len(survey),
        num_users=len(users),
        num_channels=len({name for _, names in survey for name in names}),
        num_subs=sum(len(names) for _, names in survey),
        uptime=int(broker.uptime_s),
    )


async def _info(broker: Broker, _: str) -> str:
    return msgspec.json.encode(await describe(broker)).decode()


async def _channels(broker: Broker, pattern: str) -> str:
    text = msgspec.json.encode(await _count(broker, pattern)).decode()
    return text if len(text) <= MAX_ANSWER_CHARS else TOO_LONG


async def _count(broker: Broker, pattern: str) -> Counter[str]:
    matches = api.glob(pattern).match
    counts: Counter[str] = Counter()
    for _, names in await _survey(broker):
        counts.update(filter(matches, names))
    return counts


async def _survey(broker: Broker) -> list[tuple[str | None, list[str]]]:
    """Return the user and the channels of every session of this node."""
    await anyio.lowlevel.checkpoint()
    found = []
    for number, session in enumerate(broker.sessions(), 1):
        if number % BREATH == 0:
            await anyio.lowlevel.checkpoint()
        if session.ending is None:
            names = [n for n in session.topics if n[0] != "$" and not is_pattern(n)]
            found.append((session.user, names))
    return found
