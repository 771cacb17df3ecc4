"""The port to the other nodes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from .config import Limits, TopicRules
from .message import Message, Payload, Position, no_headers
from .state.presence import Member

__all__ = ("Backplane", "Link", "Node", "Page", "Publication", "Published")


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What a node asks a backplane to publish.

    Attributes:
        topic: checked and concrete.
        payload: at most ``Limits.max_message_bytes``.
        size_bytes: of payload and headers.
        rules: of the topic; history is kept as they say.
        message_id: publish once only, within ``Limits.idempotency_s``.
        exclude: id of the subscriber, on any node, that is not to get it.
        headers: go with the payload.
    """

    topic: str
    payload: Payload
    size_bytes: int
    rules: TopicRules
    message_id: str | None = None
    exclude: str | None = None
    headers: Mapping[str, str] = field(default_factory=no_headers)


@dataclass(frozen=True, slots=True)
class Published:
    """Where a publication stands; ``duplicate`` if its ``message_id`` was known."""

    position: Position
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Messages of a topic's history, in the order asked for.

    Attributes:
        messages: those found.
        position: the end of the topic's stream when they were read; None if nothing
            is remembered of the topic.
    """

    messages: list[Message]
    position: Position | None


class Node(Protocol):
    """A broker, as its backplane sees it."""

    def deliver(self, message: Message, exclude: str | None = None) -> None:
        """Take a message of a subscribed name. Never blocks and never raises.

        Repeats are dropped. A hole in the offsets, or another epoch, is told to the
        subscribers as a gap.
        """
        ...

    def skip(self, topic: str, position: Position) -> None:
        """Take note that messages of a topic are lost for good.

        Args:
            position: what was not delivered up to here will not be; of another epoch
                where the stream has begun a new life.
        """
        ...

    def down(self, reason: str) -> None:
        """Take note that nothing is delivered any more; once per outage.

        Subscribers stay, and publishing fails.
        """
        ...

    def hear(self, news: bytes) -> None:
        """Take what another node tells all. Never blocks and never raises."""
        ...

    def up(self) -> None:
        """Take note that all that is subscribed is delivered again, without a hole."""
        ...


class Link(Protocol):
    """One node's connection to its backplane.

    Methods may be called concurrently, and each is a checkpoint. All raise
    ``BackplaneError`` when the link has failed; over a network it is then not known
    whether it was done: publish again with the same ``message_id``.
    """

    async def subscribe(self, name: str, rules: TopicRules) -> Position | None:
        """Start to deliver a topic or pattern to this node.

        Returns:
            The position after which every message will be delivered; None for a
            pattern.

        Raises:
            LimitExceeded: ``Limits.max_topics`` are remembered; nothing was changed.
        """
        ...

    async def unsubscribe(self, name: str) -> None:
        """Stop to deliver a topic or pattern to this node."""
        ...

    async def publish(self, publication: Publication) -> Published:
        """Give the publication its position and send it to all subscribed nodes.

        Cancellation: nothing was published, or all of it was.
        """
        ...

    async def history(
        self,
        topic: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page:
        """Return kept messages: all after ``since``, or the first ``limit`` of them.

        Args:
            reverse: newest first, back to ``since``.

        Raises:
            RecoveryImpossible: some message after ``since`` is not kept.
        """
        ...

    async def clear_history(self, topic: str) -> None:
        """Forget a topic's messages; its position stays what it is."""
        ...

    async def tell(self, news: bytes) -> None:
        """Have all other nodes hear something, once at most: who is out of reach now
        will not hear it later.
        """
        ...

    async def enter(self, topic: str, member: Member) -> bool:
        """Add a member to a topic's presence. Returns True if it was not there."""
        ...

    async def leave(self, topic: str, client_id: str) -> bool:
        """Remove a member. Returns False if it was not there."""
        ...

    async def members(self, topic: str) -> list[Member]:
        """Return who is in a topic, over all nodes, the longest there first."""
        ...


class Backplane(Protocol):
    """What carries messages between nodes, and remembers them.

    Every node sees a topic's messages in one order, that of their offsets, and gets
    each of them at least once while it is subscribed; repeats and holes are visible by
    their offsets.
    """

    def connect(self, node: Node, limits: Limits) -> AbstractAsyncContextManager[Link]:
        """Be connected, and deliver to the node, for as long as the block runs.

        No I/O happens before the block is entered.
        """
        ...
