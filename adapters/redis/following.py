"""All that a node is subscribed to in Redis, kept live over one connection and more."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import anyio

from adapters.backplane.behind import Behind
from adapters.backplane.body import Delivery, decode_body
from adapters.backplane.poison import Poison, Poisoned
from adapters.backplane.track import Track
from broker.backplane import Node
from broker.config import TopicRules
from broker.errors import BackplaneError, InvalidTopic
from broker.message import Position
from broker.topics import check_pattern, is_pattern, matches

from .codec import Names, decode_push
from .scripts import FOLLOW, TOUCH
from .wires import Answer, Push, Wire

__all__ = ("Following", "decode_entries", "history_ms", "keep_ms")

# Guesses. A page of the largest messages is 6.5 MB; so many topics are read at once.
PAGE = 100
READ_AT_ONCE = 20
NAMES_AT_ONCE = 500  # in one command or script: each holds up the server
# How long a topic that nobody has touched keeps its epoch; well above the time between
# two comparisons, each of which touches it.
LINGER_MS = 60_000


class Following:
    """The topics and patterns of one node.

    Args:
        names: of keys and channels.
        node: gets the messages.
        epochs: yields ids that are never the same.
        is_strict: a restart of the server begins a new life of every topic.
        poisoned: counts what is skipped.
    """

    def __init__(
        self,
        names: Names,
        node: Node,
        epochs: Iterator[str],
        *,
        is_strict: bool,
        poisoned: Poisoned,
    ) -> None:
        self._names = names
        self._node = node
        self._epochs = epochs
        self._strict = int(is_strict)
        self._poisoned = poisoned
        self._tracks: dict[str, Track] = {}
        self._patterns: dict[str, str] = {}  # {pattern: glob}
        self._behind = Behind()  # topics whose stream must be read
        # {source: the last message from it that was handed on}. Redis pushes a message
        # once for each subscription that covers it, one right after the other.
        self._last: dict[int, tuple[str, Position]] = {}
        self._wire: Wire | None = None  # the newest one, also before it is up

    def __len__(self) -> int:
        return len(self._tracks)

    def push(self, source: int, push: Push) -> None:
        """Take what Redis has pushed, from one of the wire's sources; never raises."""
        by_pattern, channel, data = push
        try:
            topic = self._names.topic_of(channel)
            track = self._tracks.get(topic)
            if by_pattern and track is not None and track.position is not None:
                return  # its own channel brings it
            delivery = decode_push(topic, data)
            if track is None or track.position is None:
                self._hand_to_patterns(source, topic, delivery)
        except (Poison, InvalidTopic) as problem:
            self._poisoned.add(repr(channel[:80]), problem)
            return
        if track is None or by_pattern:
            return
        was_live = track.held is None
        if track.arrive(delivery, self._node):
            self._last[source] = topic, delivery.position
        elif was_live:
            self._behind.add(track.topic)

    def _hand_to_patterns(self, source: int, topic: str, delivery: Delivery) -> None:
        seen = topic, delivery.position
        if seen == self._last.get(source):
            return
        check_pattern(topic)  # a channel may have any name; topics come after this
        if any(matches(pattern, topic) for pattern in self._patterns):
            self._last[source] = seen
            self._node.deliver(delivery.message, delivery.exclude)

    async def subscribe(
        self, wire: Wire, name: str, rules: TopicRules
    ) -> Position | None:
        """Follow a topic or pattern; see ``Link.subscribe``.

        Cancellation: it is not followed.
        """
        track = None
        try:
            if is_pattern(name):
                self._patterns[name] = glob = self._names.glob(name)
                wire.tell(b"PSUBSCRIBE", [glob])
                await wire.pass_fence()
                return None
            track = self._tracks[name] = Track(name, rules)
            wire.tell(b"SUBSCRIBE", [self._names.channel(name)])
            await wire.pass_fence()  # subscribe first, then look where the stream is
            await self._catch_up(wire, [track])
            return track.start  # it may be further already
        except BaseException:
            self.unsubscribe(name)
            raise

    def unsubscribe(self, name: str) -> None:
        """Follow a topic or pattern no longer."""
        with suppress(BackplaneError):  # the next connection will not subscribe it
            if is_pattern(name):
                glob = self._patterns.pop(name, None)
                if glob and glob not in self._patterns.values() and self._wire:
                    self._wire.tell(b"PUNSUBSCRIBE", [glob])
            elif self._tracks.pop(name, None) and self._wire:
                self._wire.tell(b"UNSUBSCRIBE", [self._names.channel(name)])

    async def resume(self, wire: Wire) -> None:
        """Subscribe everything on a new connection, and make up for what was missed."""
        self._wire = wire
        self._behind.clear()
        self._last.clear()
        wire.heed(self._miss)
        tracks = list(self._tracks.values())
        for track in tracks:
            track.forget_held()
        # No await before all is told: who unsubscribes meanwhile does so after it.
        for names in _chunks([self._names.channel(each.topic) for each in tracks]):
            wire.tell(b"SUBSCRIBE", names)
        for names in _chunks(list(set(self._patterns.values()))):
            wire.tell(b"PSUBSCRIBE", names)
        await wire.pass_fence()
        await self._catch_up(wire, tracks)

    async def keep_up(self, wire: Wire) -> None:
        """Read the streams of topics in which a hole was found, until cancelled."""
        while True:
            topics = await self._behind.take()
            tracks = [self._tracks[each] for each in topics if each in self._tracks]
            await wire.pass_fence()  # first subscribed, where that was lost
            await self._catch_up(wire, tracks)

    async def compare(self, wire: Wire, every_s: float) -> None:
        """Look for pushes that were lost without a trace, until cancelled."""
        while True:
            # All nodes at once would be a load.
            await anyio.sleep(every_s * random.uniform(0.75, 1.25))
            for tracks in _chunks(list(self._tracks.values())):
                await self._compare(wire, tracks)

    async def _compare(self, wire: Wire, tracks: list[Track]) -> None:
        together: dict[int, list[Track]] = {}
        for track in tracks:
            place = wire.place(self._names.stream(track.topic)[0])
            together.setdefault(place, []).append(track)
        asked = [(each, self._touch(wire, each)) for each in together.values()]
        answers = [(each, await answer.result()) for each, answer in asked]
        await wire.pass_fence()  # what is on its way is not lost
        for some, tops in answers:
            for track, (epoch, offset) in zip(some, tops, strict=True):
                top = Position(epoch.decode(), offset)
                if track.held is None and track.is_behind(top):
                    track.fall_behind()
                    self._behind.add(track.topic)

    def _touch(self, wire: Wire, tracks: list[Track]) -> Answer:
        keys: list[str] = []
        arguments: list[object] = [self._strict, next(self._epochs)]
        for track in tracks:
            keys += self._names.stream(track.topic)
            arguments += [*_seen(track), keep_ms(track.rules)]
        return wire.start(TOUCH, keys, arguments)

    def _miss(self, channel: str) -> None:
        with suppress(Poison):  # it may be that of the news
            track = self._tracks.get(self._names.topic_of(channel.encode()))
            if track is not None:
                track.fall_behind()
                self._behind.add(track.topic)

    async def _catch_up(self, wire: Wire, tracks: Iterable[Track]) -> None:
        """Read and deliver what tracks have missed, until they are live."""
        waiting = deque(tracks)
        while waiting:
            batch = [waiting.popleft() for _ in range(min(READ_AT_ONCE, len(waiting)))]
            asked = [
                (each, len(each.held or ()), self._ask(wire, each))
                for each in batch
                if self._tracks.get(each.topic) is each
            ]
            answers = [(*each, await each[2].result()) for each in asked]
            # What was pushed before the streams were read has to be here first.
            await wire.pass_fence()
            for track, older, _, (epoch, offset, entries) in answers:
                if self._tracks.get(track.topic) is not track:
                    continue  # it was left meanwhile
                top = Position(epoch.decode(), offset)
                found = decode_entries(track.topic, top.epoch, entries, self._poisoned)
                until = _offset_of(entries[-1]) if len(entries) >= PAGE else None
                if not track.resume(
                    top, found, until=until, older=older, node=self._node
                ):
                    waiting.append(track)

    def _ask(self, wire: Wire, track: Track) -> Answer:
        limit = PAGE if track.position else 0  # just subscribed: from now on
        arguments = [
            self._strict,
            next(self._epochs),
            keep_ms(track.rules),
            *_seen(track),
            limit,
        ]
        return wire.start(FOLLOW, self._names.stream(track.topic), arguments)


def keep_ms(rules: TopicRules) -> int:
    """Return how long a topic keeps its epoch when nobody touches it (ms)."""
    return max(LINGER_MS, history_ms(rules) if rules.history_size else 0)


def history_ms(rules: TopicRules) -> int:
    """Return how long a message is kept (ms, >= 1)."""
    return max(1, round(rules.history_ttl_s * 1000))


def decode_entries(
    topic: str, epoch: str, entries: list[Any], poisoned: Poisoned
) -> list[Delivery]:
    """Return the messages of a stream's entries, without what is none."""
    found = []
    for entry in entries:
        try:
            fields = dict(zip(entry[1][::2], entry[1][1::2], strict=True))
            position = Position(epoch, _offset_of(entry))
            found.append(decode_body(topic, position, fields.get(b"d", b"")))
        except Poison as problem:
            poisoned.add(topic, problem)
    return found


def _offset_of(entry: Any) -> int:
    return int(entry[0].partition(b"-")[0])


def _seen(track: Track) -> tuple[str, int]:
    position = track.position
    return ("", 0) if position is None else (position.epoch, position.offset)


def _chunks(items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), NAMES_AT_ONCE):
        yield items[start : start + NAMES_AT_ONCE]
