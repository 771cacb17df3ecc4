"""Two nodes on one backplane, which write down what they are told."""

from __future__ import annotations

from dataclasses import dataclass

import anyio

from broker.backplane import Link, Publication, Published
from broker.config import TopicRules
from broker.message import Message, Payload, Position, size_of

__all__ = (
    "KEPT",
    "LOST",
    "PATIENCE_S",
    "Pair",
    "Recorder",
    "expect",
    "fill",
    "payloads",
    "publish",
)

PATIENCE_S = 30.0
KEPT = TopicRules(history_size=1_000)
LOST = TopicRules()


def expect(holds: object, promise: str, found: object = "") -> None:
    """Raise an AssertionError that names the promise, unless it holds."""
    if not holds:
        raise AssertionError(f"{promise}; found {found!a}" if found != "" else promise)


class Recorder:
    """A node that keeps what it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[Message, str | None]] = []
        self.heard: list[bytes] = []
        self._changed = anyio.Event()

    def deliver(self, message: Message, exclude: str | None = None) -> None:
        self.got.append((message, exclude))
        self._wake()

    def skip(self, topic: str, position: Position) -> None:
        raise AssertionError(f"{topic} was said to be lost up to {position}")

    def down(self, reason: str) -> None:
        raise AssertionError(f"the link went down: {reason}")

    def up(self) -> None:
        raise AssertionError("the link came up, but it was never down")

    def hear(self, news: bytes) -> None:
        self.heard.append(news)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def of(self, topic: str) -> list[Message]:
        """Return a topic's messages; repeats, which are allowed, only once."""
        seen: dict[Position | None, Message] = {}
        for message, _ in self.got:
            if message.topic == topic:
                seen.setdefault(message.position, message)
        return list(seen.values())

    async def wait_news(self, news: bytes) -> list[bytes]:
        """Wait for a piece of news, and return all so far."""
        with anyio.move_on_after(PATIENCE_S):
            while news not in self.heard:
                await self._changed.wait()
            return self.heard
        raise AssertionError("what one node tells, all others hear")

    async def wait(self, topic: str, payload: Payload) -> list[Message]:
        """Wait for a message, and return all of its topic so far."""
        with anyio.move_on_after(PATIENCE_S):
            while True:
                found = self.of(topic)
                if any(message.payload == payload for message in found):
                    return found
                await self._changed.wait()
        raise AssertionError(
            f"a subscribed node gets every message; {payload[:40]!a} did not come"
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """Two nodes, their links, and the first part of this check's topics."""

    one: Recorder
    two: Recorder
    first: Link
    second: Link
    base: str

    @property
    def nodes(self) -> tuple[Recorder, Recorder]:
        return self.one, self.two

    async def subscribe(self, topic: str, rules: TopicRules = LOST) -> Position:
        """Subscribe both nodes to a new topic, and return where they stand."""
        start = await self.first.subscribe(topic, rules)
        other = await self.second.subscribe(topic, rules)
        expect(start is not None, "subscribing to a topic returns a position")
        expect(start == other, "both nodes see one position", (start, other))
        assert start is not None
        return start


async def publish(
    link: Link,
    topic: str,
    payload: Payload,
    rules: TopicRules = LOST,
    *,
    message_id: str | None = None,
    exclude: str | None = None,
    headers: dict[str, str] | None = None,
) -> Published:
    """Publish by a link."""
    size = size_of(payload)
    return await link.publish(
        Publication(
            topic=topic,
            payload=payload,
            size_bytes=size,
            rules=rules,
            message_id=message_id,
            exclude=exclude,
            headers=headers or {},
        )
    )


async def fill(link: Link, topic: str, count: int, rules: TopicRules) -> list[Position]:
    """Publish "1", "2" … and return their positions."""
    return [
        (await publish(link, topic, str(number), rules)).position
        for number in range(1, count + 1)
    ]


def payloads(messages: list[Message]) -> list[Payload]:
    """Return what is in messages."""
    return [message.payload for message in messages]
