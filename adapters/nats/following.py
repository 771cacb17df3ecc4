"""All that a node is subscribed to in NATS, kept live over one connection."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import anyio

from adapters.backplane.behind import Behind
from adapters.backplane.body import Delivery
from adapters.backplane.poison import Poisoned
from adapters.backplane.track import Track
from broker.backplane import Node
from broker.config import TopicRules
from broker.errors import BackplaneError, InvalidTopic
from broker.message import Position
from broker.topics import check_pattern, is_pattern, matches

from .codec import Push
from .session import Session

__all__ = ("Following",)

FOLLOW_AT_ONCE = 20  # a page of the largest messages each (guess)
LOOK_AT_ONCE = 500  # topics in one call to the other loop (guess)
UNSUBSCRIBE_S = 1.0  # of what was given up (guess)
SETTLE_S = 0.5  # for a push that is on its way, or was lost (guess)


class Following:
    """The topics and patterns of one node. Lives on the node's event loop.

    Args:
        node: gets the messages.
        poisoned: counts what is skipped.
    """

    def __init__(self, node: Node, poisoned: Poisoned) -> None:
        self._node = node
        self._poisoned = poisoned
        self._tracks: dict[str, Track] = {}
        self._sequences: dict[str, int] = {}  # {topic: up to which all is delivered}
        self._patterns: dict[str, None] = {}
        # {topic: up to where patterns have got it}, while its own subscription ends:
        # until then either subscription may be the first to bring a message.
        self._left: dict[str, Position] = {}
        self._upto = 0  # sequence up to which patterns have got all, or were not there
        self._moved = anyio.Event()  # it has
        self._behind = Behind()  # topics whose log must be read
        self._session: Session | None = None  # the newest one, also before it is up

    def __len__(self) -> int:
        return len(self._tracks)

    def push(self, push: Push) -> None:
        """Take what the server has told of a topic; never raises."""
        topic = push.topic
        track = self._tracks.get(topic)
        if track is None:
            self._push_left(push)
            return
        was_live = track.held is None
        if push.delivery is None:
            if not track.is_behind(push.record.position):
                return
            track.fall_behind()
        elif track.arrive(push.delivery, self._node):
            self._sequences[topic] = push.sequence
            return
        if was_live:
            self._behind.add(track.topic)

    def push_to_patterns(self, push: Push) -> None:
        """Take the same by way of the subscription that brings all topics."""
        self._reach(push.sequence)
        track = self._tracks.get(push.topic)
        if track is None and push.topic in self._left:
            self._push_left(push)
            return
        if push.delivery is None or (track is not None and track.position is not None):
            return  # its own subscription brings it
        try:
            check_pattern(push.topic)  # a subject may have any name
        except InvalidTopic as problem:
            self._poisoned.add(repr(push.topic[:80]), problem)
            return
        self._deliver_to_patterns(push.delivery)

    def _reach(self, sequence: int) -> None:
        self._upto = max(self._upto, sequence)
        self._moved.set()
        self._moved = anyio.Event()

    async def _settle(self, session: Session, sequence: int) -> None:
        """Wait until patterns have got what is kept up to there.

        The server may say what it keeps an instant before it pushes it.
        """
        await session.settle()
        with anyio.move_on_after(SETTLE_S):
            while self._upto < sequence:
                await self._moved.wait()

    def _push_left(self, push: Push) -> None:
        last = self._left.get(push.topic)
        if last is None or push.delivery is None:
            return
        position = push.delivery.position
        if position.epoch != last.epoch or position.offset > last.offset:
            self._left[push.topic] = position
            self._deliver_to_patterns(push.delivery)

    def _deliver_to_patterns(self, delivery: Delivery) -> None:
        message = delivery.message
        if any(matches(pattern, message.topic) for pattern in self._patterns):
            self._node.deliver(message, delivery.exclude)

    async def subscribe(
        self, session: Session, name: str, rules: TopicRules
    ) -> Position | None:
        """Follow a topic or pattern; see ``Link.subscribe``.

        Cancellation: it is not followed.
        """
        try:
            if is_pattern(name):
                self._patterns[name] = None
                self._reach(await session.listen_to_all(self.push_to_patterns))
                return None
            self._left.pop(name, None)
            track = self._tracks[name] = Track(name, rules)
            await session.listen(name, self.push)  # first, then look where it stands
            await self._catch_up(session, [track])
            return track.position
        except BaseException:
            with anyio.move_on_after(UNSUBSCRIBE_S, shield=True):
                await self.unsubscribe(name)
            raise

    async def unsubscribe(self, name: str) -> None:
        """Follow a topic or pattern no longer."""
        session = self._session
        with suppress(BackplaneError):  # the next connection will not subscribe it
            if is_pattern(name):
                self._patterns.pop(name, None)
                if not self._patterns and session:
                    await session.ignore_all()
            elif track := self._tracks.pop(name, None):
                self._sequences.pop(name, None)
                if session and self._patterns and track.position is not None:
                    await self._leave(session, track, track.position)
                elif session:
                    await session.ignore(name)

    async def _leave(self, session: Session, track: Track, last: Position) -> None:
        """End a topic's own subscription; from its end on patterns get it by theirs."""
        topic = track.topic
        for each in track.held or ():
            self._deliver_to_patterns(each)
            last = each.position
        self._left[topic] = last
        try:
            await session.settle(topic)  # what theirs has left to this one
            await session.ignore(topic)
            await session.settle()
        finally:
            self._left.pop(topic, None)

    async def resume(self, session: Session) -> None:
        """Subscribe everything on a new connection, and make up for what was missed."""
        self._session = session
        self._behind.clear()
        tracks = list(self._tracks.values())
        for track in tracks:
            track.forget_held()
        for track in tracks:
            if self._tracks.get(track.topic) is track:
                await session.listen(track.topic, self.push)
        if self._patterns:
            self._upto = 0  # the stream may be another one
            self._reach(await session.listen_to_all(self.push_to_patterns))
        for track in tracks:  # who left meanwhile, before it was subscribed again
            if track.topic not in self._tracks:
                await session.ignore(track.topic)
        await self._catch_up(session, tracks)

    async def keep_up(self, session: Session) -> None:
        """Read the log of topics in which a hole was found, until cancelled."""
        while True:
            topics = await self._behind.take()
            tracks = [self._tracks[each] for each in topics if each in self._tracks]
            await self._catch_up(session, tracks)

    async def compare(self, session: Session, every_s: float) -> None:
        """Look for pushes that were lost without a trace, until cancelled."""
        while True:
            # All nodes at once would be a load.
            await anyio.sleep(every_s * random.uniform(0.75, 1.25))
            tracks = list(self._tracks.values())
            for start in range(0, len(tracks), LOOK_AT_ONCE):
                some = tracks[start : start + LOOK_AT_ONCE]
                asked = [(each.topic, each.rules) for each in some]
                for track, top in zip(some, await session.look(asked), strict=True):
                    self._compare(track, top)

    def _compare(self, track: Track, top: Position | None) -> None:
        # What looks as if there were less than there was is looked at again, because
        # it may have grown since.
        if track.held is None and (top is None or track.position != top):
            track.fall_behind()
            self._behind.add(track.topic)

    async def _catch_up(self, session: Session, tracks: Iterable[Track]) -> None:
        """Read and deliver what tracks have missed, until they are live."""
        waiting = deque(tracks)
        while waiting:
            batch = [
                waiting.popleft() for _ in range(min(FOLLOW_AT_ONCE, len(waiting)))
            ]
            asked: list[Any] = [
                (each.topic, each.rules, each.position, self._sequence(each))
                for each in batch
            ]
            older = [len(each.held or ()) for each in batch]
            answers = await session.follow(asked)
            if any(each.position is None for each in batch) and self._patterns:
                # From then on all comes one way only.
                await self._settle(session, max(each.sequence for each in answers))
            for track, count, followed in zip(batch, older, answers, strict=True):
                if self._tracks.get(track.topic) is not track:
                    continue  # it was left meanwhile
                self._sequences[track.topic] = followed.sequence
                if not track.resume(
                    followed.top,
                    followed.found,
                    until=followed.until,
                    older=count,
                    node=self._node,
                ):
                    waiting.append(track)

    def _sequence(self, track: Track) -> int:
        return self._sequences.get(track.topic, 0)
