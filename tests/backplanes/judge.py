"""A node that writes down what it is told, and a judge of what it was told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import anyio

from broker.message import Message, Payload, Position

__all__ = ("PATIENCE_S", "Skipped", "Watcher")

PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was said to be lost: up to here."""

    position: Position


@dataclass(slots=True)
class Watcher:
    """A node without subscribers.

    Attributes:
        told: {topic: messages and skips, in order}.
        excluded: who was not to get the messages, in order.
        heard: news.
        states: "down" and "up", in order.
    """

    told: dict[str, list[Message | Skipped]] = field(default_factory=dict)
    excluded: list[str | None] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    _changed: anyio.Event = field(default_factory=anyio.Event)

    def deliver(self, message: Message, exclude: str | None = None) -> None:
        self.told.setdefault(message.topic, []).append(message)
        self.excluded.append(exclude)
        self._wake()

    def skip(self, topic: str, position: Position) -> None:
        self.told.setdefault(topic, []).append(Skipped(position))
        self._wake()

    def hear(self, news: bytes) -> None:
        self.heard.append(news)
        self._wake()

    def down(self, reason: str) -> None:
        assert reason
        self.states.append("down")
        self._wake()

    def up(self) -> None:
        self.states.append("up")
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds; looked at after whatever this node is told."""
        with anyio.fail_after(PATIENCE_S):
            while not condition():
                await self._changed.wait()

    async def wait_payload(self, topic: str, payload: Payload) -> None:
        """Wait for a message."""
        await self.wait(lambda: payload in self.payloads(topic))

    def payloads(self, topic: str) -> list[Payload]:
        """Return the payloads of a topic's messages."""
        return [m.payload for m in self.told.get(topic, []) if isinstance(m, Message)]

    def shape(self, topic: str) -> list[Payload | int]:
        """Return payloads, and the offset for what was skipped."""
        return [
            each.payload if isinstance(each, Message) else each.position.offset
            for each in self.told.get(topic, [])
        ]

    def judge(
        self, topic: str, start: Position, acknowledged: Mapping[Position, Payload]
    ) -> None:
        """Check that each message came once and in order, or was said to be lost.

        Args:
            start: what ``subscribe`` returned.
            acknowledged: what publishers know to be published.
        """
        last, epochs = start, [start.epoch]
        got: dict[Position, Payload] = {}
        lost: list[tuple[str, int, float]] = []  # epoch, first and last offset
        for each in self.told.get(topic, []):
            position = each.position
            assert position is not None
            if isinstance(each, Message):
                following = Position(last.epoch, last.offset + 1)
                assert position == following, f"{position} came after {last}"
                got[position] = each.payload
            elif position.epoch == last.epoch:
                assert position.offset > last.offset, "it had been delivered"
                lost.append((last.epoch, last.offset + 1, position.offset))
            else:
                assert position.epoch not in epochs, "an epoch that was over came back"
                epochs.append(position.epoch)
                lost.append((last.epoch, last.offset + 1, float("inf")))
                lost.append((position.epoch, 1, position.offset))
            last = position
        for position, payload in acknowledged.items():
            if position in got:
                assert got[position] == payload
                continue
            if position.epoch not in epochs and len(epochs) > 1:
                continue  # a whole life was missed between two of which it was told
            assert any(
                epoch == position.epoch and first <= position.offset <= end
                for epoch, first, end in lost
            ), f"{position} was lost in silence; told was {lost}"
