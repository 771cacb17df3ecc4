"""Three nodes on one engine that all listen and publish, and are judged afterwards.

Who gets no answer publishes again with the same ``message_id``, so in the end all is
acknowledged.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest

from broker.backplane import Backplane, Link, Publication, Published
from broker.config import Limits, TopicRules
from broker.errors import BackplaneError
from broker.message import Message, Payload, Position

from .judge import PATIENCE_S, Watcher
from .servers import Engine

__all__ = (
    "KEPT",
    "LOST",
    "Traffic",
    "check_listener",
    "epochs",
    "hang",
    "publish",
    "skips",
    "traffic",
)

KEPT = TopicRules(history_size=100_000)
LOST = TopicRules()
TOPICS = {"kept": KEPT, "lost": LOST}
ENOUGH = 40  # messages before the fault, and again after it
HANGS_S = 5.0  # how long a server that hangs does so
PACE_S = 0.002  # between two messages of one publisher


async def publish(
    link: Link,
    topic: str,
    payload: str,
    rules: TopicRules = KEPT,
    message_id: str | None = None,
) -> Published:
    return await link.publish(
        Publication(
            topic=topic,
            payload=payload,
            size_bytes=len(payload),
            rules=rules,
            message_id=message_id,
        )
    )


@dataclass(slots=True)
class Traffic:
    """Three nodes that all listen and publish.

    Attributes:
        starts: {topic: where each node began}.
        acknowledged: {topic: {position: payload}}.
    """

    watchers: list[Watcher]
    links: list[Link]
    starts: dict[str, list[Position]] = field(default_factory=dict)
    acknowledged: dict[str, dict[Position, Payload]] = field(default_factory=dict)
    count: int = 0
    _more: anyio.Event = field(default_factory=anyio.Event)
    is_over: bool = False

    async def publisher(self, link: Link, name: str) -> None:
        number = 0
        while not self.is_over:
            number += 1
            for topic in TOPICS:
                await self.insist(link, topic, f"{name}:{number}")
                self.count += 1
                self._more.set()
            await anyio.sleep(PACE_S)

    async def insist(self, link: Link, topic: str, text: str) -> None:
        """Publish until it is acknowledged."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                try:
                    done = await publish(link, topic, text, TOPICS[topic], text)
                except BackplaneError:
                    await anyio.sleep(PACE_S)
                    continue
                self.acknowledged.setdefault(topic, {})[done.position] = text
                return

    async def wait_more(self) -> None:
        """Wait until some more has been published."""
        enough = self.count + ENOUGH
        with anyio.fail_after(PATIENCE_S):
            while self.count < enough:
                self._more = anyio.Event()
                await self._more.wait()

    async def wait_back(self) -> None:
        """Wait until every node has been down, and all are up again."""
        for watcher in self.watchers:
            await watcher.wait(lambda w=watcher: w.states[-1:] == ["up"])  # type: ignore[misc] # bound

    async def finish(self) -> None:
        """Publish the last messages, and wait until every node has them."""
        for topic in TOPICS:
            await self.insist(self.links[0], topic, "end")
        for watcher in self.watchers:
            for topic in TOPICS:
                await watcher.wait_payload(topic, "end")

    def judge(self) -> None:
        """Judge each node and topic, and compare the nodes."""
        for topic in TOPICS:
            seen: dict[Position | None, Payload] = {}
            for watcher, start in zip(self.watchers, self.starts[topic], strict=True):
                watcher.judge(topic, start, self.acknowledged[topic])
                for each in watcher.told[topic]:
                    if isinstance(each, Message):
                        first = seen.setdefault(each.position, each.payload)
                        assert first == each.payload, "nodes disagree"


@asynccontextmanager
async def traffic(make: Callable[[], Backplane]) -> AsyncGenerator[Traffic, None]:
    """Let it flow; when the block is left, all has arrived and was judged."""
    watchers = [Watcher() for _ in range(3)]
    async with AsyncExitStack() as stack:
        links = [
            await stack.enter_async_context(make().connect(watcher, Limits()))
            for watcher in watchers
        ]
        flow = Traffic(watchers, links)
        for topic, rules in TOPICS.items():
            starts = [await link.subscribe(topic, rules) for link in links]
            flow.starts[topic] = [start for start in starts if start is not None]
        async with anyio.create_task_group() as tasks:
            for number, link in enumerate(links):
                tasks.start_soon(flow.publisher, link, f"p{number}")
            await flow.wait_more()
            yield flow
            await flow.wait_more()
            flow.is_over = True  # "end" comes after all that is acknowledged
        await flow.finish()
        flow.judge()


def skips(flow: Traffic, topic: str) -> list[int]:
    """Return offsets up to which something was said to be lost, over all nodes."""
    return [
        each
        for watcher in flow.watchers
        for each in watcher.shape(topic)
        if isinstance(each, int)
    ]


def epochs(flow: Traffic, topic: str) -> int:
    return len({position.epoch for position in flow.acknowledged[topic]})


async def hang(flow: Traffic, server: Engine) -> None:
    """Have the server hang for a while: every node notices, and publishing fails."""
    server.pause()
    try:
        with anyio.fail_after(HANGS_S):
            for watcher in flow.watchers:
                await watcher.wait(lambda w=watcher: w.states == ["down"])  # type: ignore[misc] # bound
                with pytest.raises(BackplaneError):
                    await publish(flow.links[0], "kept", "nobody")
            await anyio.sleep_forever()
    except TimeoutError:
        pass
    finally:
        server.unpause()
    await flow.wait_back()


async def check_listener(backplane: Backplane, server: Engine) -> None:
    """A node that only listens notices as well that the server hangs."""
    watcher = Watcher()
    async with backplane.connect(watcher, Limits()):
        server.pause()
        try:
            await watcher.wait(lambda: watcher.states == ["down"])
        finally:
            server.unpause()
        await watcher.wait(lambda: watcher.states == ["down", "up"])
