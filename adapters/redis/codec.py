"""Names as keys and channels of Redis, and what is pushed and leased there."""

from __future__ import annotations

import re

from adapters.backplane.body import Delivery, decode_body, decode_member
from adapters.backplane.poison import Poison
from broker.message import Position
from broker.state.presence import Member

__all__ = (
    "Names",
    "decode_lease",
    "decode_push",
    "glob_of",
)

# What the publish script writes before the body: epoch, offset. An offset is at most
# 2**53, because that is where Lua's numbers stop counting by one.
_PUSH = re.compile(rb"([0-9a-f]{1,64}) ([1-9][0-9]{0,15}) (.*)", re.DOTALL)
_GLOB_SPECIAL = re.compile(r"([\[\]?\\])")


class Names:
    """Keys and channels under one prefix.

    The kind of a key comes before the topic, so no topic can be taken for a key of
    another kind. All of a topic's have the same hash tag, so in a cluster they are in
    one slot: what is between the first ``{`` and the first ``}`` after it. It begins
    with ``:``, because an empty one would be none.

    Args:
        prefix: of everything; brokers that share it are one broker.
        database: number of the logical database. Keys live in one, channels in all of
            them, so its number is part of a channel's name.
    """

    def __init__(self, prefix: str, database: int) -> None:
        self._prefix = prefix
        self._channels = f"{prefix}:{database}:c:{{:"
        self._channel_bytes = self._channels.encode()
        self.news = f"{prefix}:{database}:news"  # every node is subscribed
        self.fence = f"{prefix}:{database}:fence"  # and to this one, on each server

    def stream(self, topic: str) -> list[str]:
        """Return the keys of a topic's life and of its kept messages."""
        return [f"{self._prefix}:{kind}:{{:{topic}}}" for kind in "ts"]

    def message_id(self, topic: str, message_id: str) -> str:
        """Return the key that remembers an id. No topic has a space in it."""
        return f"{self._prefix}:i:{{:{topic}}} {message_id}"

    def presence(self, topic: str) -> list[str]:
        """Return the keys of a topic's members and of their leases."""
        return [f"{self._prefix}:{kind}:{{:{topic}}}" for kind in "pl"]

    def channel(self, topic: str) -> str:
        """Return the channel on which a topic's messages are pushed."""
        return f"{self._channels}{topic}}}"

    def glob(self, pattern: str) -> str:
        """Return the glob of all channels that a pattern covers, and of some more."""
        return glob_of(self._channels) + glob_of(pattern, is_pattern=True) + "}"

    def topic_of(self, channel: bytes) -> str:
        """Return a channel's topic.

        What a cluster adds to the channels of patterns, after a space, does not count.

        Raises:
            Poison: it is not a channel of ours.
        """
        name = channel.partition(b" ")[0]
        is_ours = name.startswith(self._channel_bytes) and name.endswith(b"}")
        if not is_ours or not name.isascii():
            raise Poison(f"no topic is named {channel[:80]!r}")
        return name[len(self._channel_bytes) : -1].decode("ascii")


def glob_of(text: str, *, is_pattern: bool = False) -> str:
    """Return a glob for a literal text, or for a pattern of topics.

    Redis knows no segments: its ``*`` runs across dots. What it lets through beyond the
    pattern is for ``broker.topics.matches`` to hold back.
    """
    glob = _GLOB_SPECIAL.sub(r"\\\1", text)
    if not is_pattern:
        return glob.replace("*", r"\*")
    return glob.removesuffix(">") + "*" if glob.endswith(">") else glob


def decode_push(topic: str, data: bytes) -> Delivery:
    """Return the message that was pushed on a topic's channel.

    Raises:
        Poison: it is none.
    """
    parts = _PUSH.fullmatch(data)
    if parts is None:
        raise Poison("no position")
    position = Position(parts[1].decode("ascii"), int(parts[2]))
    return decode_body(topic, position, parts[3])


def decode_lease(client_id: bytes, value: bytes) -> tuple[int, Member]:
    """Return when a member has joined (µs, the server's clock), and the member.

    Raises:
        Poison: no node has written it.
    """
    joined, _, body = value.partition(b" ")
    try:
        return int(joined), decode_member(client_id.decode(), body)
    except ValueError as error:
        raise Poison(f"no member: {error}") from error
