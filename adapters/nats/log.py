"""The log of all topics: a JetStream stream. Runs beside nats-py."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import anyio

from adapters.backplane.body import Delivery
from adapters.backplane.poison import Poison, Poisoned
from broker.backplane import Published
from broker.config import TopicRules
from broker.errors import BackplaneError
from broker.message import Position

from .codec import (
    LONGEST_S,
    MOST,
    Head,
    Names,
    Push,
    Record,
    decode_head,
    decode_known,
    encode_known,
    encode_record,
    keep_s,
)
from .heads import MAX_HEADS, PAGE, Heads
from .wire import Ack, Wire, WrongSequence

__all__ = ("Followed", "Kept", "Log")

# Guesses.
READS_AT_ONCE = 32
TRIM_EACH = 64  # messages of a topic
# What is younger stays where it is, also without history: a publisher that was cut off
# finds its message when it asks again.
CONFIRM_S = 60.0
PATIENCE_S = 10.0  # for a publish among many to one topic
PAUSE_S = 0.02  # for a replica that is behind


class Kept(NamedTuple):
    """A topic's history: what rules and time have left of it, oldest first."""

    top: Position
    deliveries: list[Delivery]


class Followed(NamedTuple):
    """What came after a position.

    Attributes:
        top: the end of the topic's stream.
        found: messages after the position.
        until: offset up to which it was read, if not to the end.
        sequence: likewise in the JetStream stream.
    """

    top: Position
    found: list[Delivery]
    until: int | None
    sequence: int


class Log:
    """All topics. One JetStream stream has one numbering, so topics have their own.

    A topic's offset is in its last record. Who publishes reads it, writes the next one
    and says which record it has read: JetStream refuses if there is another by now.
    So offsets are dense, and their order is that of the stream.

    Args:
        wire: one connection.
        names: of streams and subjects.
        epochs: yields ids that are never the same.
        poisoned: counts what is skipped.
        idempotency_s: how long a message id is remembered (s, > 0).
    """

    def __init__(
        self,
        wire: Wire,
        names: Names,
        epochs: Iterator[str],
        poisoned: Poisoned,
        *,
        idempotency_s: float,
    ) -> None:
        self._wire = wire
        self._idempotency_s = idempotency_s
        self._names = names
        self._epochs = epochs
        self._heads = Heads(wire, names, poisoned)
        # {topic: some messages of this node: offset, sequence, when (s)}
        self._marks: OrderedDict[str, deque[tuple[int, int, float]]] = OrderedDict()
        self._locks: dict[str, tuple[anyio.Lock, int]] = {}

    def note(self, push: Push) -> None:
        """Remember the head of a topic, which was pushed."""
        self._heads.note(push)

    async def publish(
        self, topic: str, body: bytes, rules: TopicRules, message_id: str | None
    ) -> Published:
        """Publish a body under a topic; see ``Link.publish``."""
        with anyio.move_on_after(PATIENCE_S):
            async with self._alone(topic):
                if message_id is None:
                    return await self._append(topic, body, rules, None)
                subject = self._names.message_id(topic, message_id)
                return await self._publish_once(topic, body, rules, subject)
        raise BackplaneError(f"too many publish to {topic} at once")

    async def _publish_once(
        self, topic: str, body: bytes, rules: TopicRules, subject: str
    ) -> Published:
        found = await self._wire.find(self._names.log, last_by_subj=subject)
        if found is not None and (known := decode_known(found.data)) is not None:
            return Published(known, duplicate=True)
        published = await self._append(topic, body, rules, subject)
        # Until this is done, JetStream's own window knows the id.
        headers = {"Nats-TTL": f"{math.ceil(self._idempotency_s)}s"}
        known_as = encode_known(published.position)
        await self._wire.publish(subject, known_as, headers)
        return published

    async def _append(
        self, topic: str, body: bytes, rules: TopicRules, once: str | None
    ) -> Published:
        while True:
            head = self._heads.known(topic) or await self._heads.load(topic)
            last = head.record
            offset = 1 if last is None else last.offset + 1
            record = Record(
                epoch=next(self._epochs) if last is None else last.epoch,
                offset=offset,
                kept_from=_kept_from(last) if rules.history_size else offset + 1,
                size=int(min(rules.history_size, MOST)),
                max_bytes=int(min(rules.history_bytes, MOST)),
                ttl_ms=max(1, round(min(rules.history_ttl_s, LONGEST_S) * 1000)),
                body=body,
            )
            try:
                ack = await self._write(topic, head, record, keep_s(rules), once)
            except WrongSequence:
                self._heads.forget(topic, head)
                continue
            if ack.duplicate:
                return await self._find_first(topic, ack.sequence)
            await self._trim(topic, record, ack.sequence)
            return Published(record.position)

    async def _write(
        self, topic: str, head: Head, record: Record, keep: int, once: str | None
    ) -> Ack:
        """Write the record after a head."""
        headers = {
            "Nats-Expected-Last-Subject-Sequence": str(head.sequence),
            "Nats-TTL": f"{keep}s",
        }
        if once is not None:
            headers["Nats-Msg-Id"] = once
        subject = self._names.topic(topic)
        ack = await self._wire.publish(subject, encode_record(record), headers)
        if not ack.duplicate:
            now = self._wire.server_time()
            self._heads.remember(topic, Head(ack.sequence, record, now))
        return ack

    async def _find_first(self, topic: str, sequence: int) -> Published:
        """Return where a message stands whose publisher was cut off."""
        found = await self._wire.find(self._names.log, seq=sequence)
        if found is not None and found.subject == self._names.topic(topic):
            with suppress(Poison):
                position = decode_head(found.data).position
                return Published(position, duplicate=True)
        raise BackplaneError(
            f"a message with this id was published to {topic}, and where is forgotten"
        )

    async def _trim(self, topic: str, record: Record, sequence: int) -> None:
        """Remove what is no history any more, now and then.

        What is young stays: its publisher may be about to ask again where it stands.
        """
        marks = self._marks.setdefault(topic, deque())
        self._marks.move_to_end(topic)
        if len(self._marks) > MAX_HEADS:
            self._marks.popitem(last=False)  # time removes those
        if not marks or record.offset - marks[-1][0] >= TRIM_EACH:
            marks.append((record.offset, sequence, anyio.current_time()))
        old = 0
        while marks:
            offset, at, time = marks[0]
            is_young = anyio.current_time() - time < CONFIRM_S
            if is_young or offset > record.offset - max(1, record.size):
                break
            old = at
            marks.popleft()
        if old:
            with suppress(BackplaneError):  # it is published, and that counts
                await self._wire.api(
                    f"STREAM.PURGE.{self._names.log}",
                    filter=self._names.topic(topic),
                    seq=old + 1,
                )

    async def clear(self, topic: str) -> None:
        """Forget the messages of a topic, and not where it stands."""
        async with self._alone(topic):
            while True:
                head = await self._heads.load(topic)
                if head.record is None:
                    return
                marker = _marker(head.record, cleared=True)
                try:
                    await self._write(topic, head, marker, self._ttl(marker), None)
                except WrongSequence:
                    self._heads.forget(topic, head)
                    continue
                break
            await self._wire.api(
                f"STREAM.PURGE.{self._names.log}",
                filter=self._names.topic(topic),
                keep=1,
            )

    async def history(self, topic: str) -> Kept | None:
        """Return a topic's history; None if nothing is known of it."""
        with anyio.move_on_after(PATIENCE_S):
            while True:
                head = await self._heads.load(topic)
                if head.record is None:
                    return None
                stored, reached = await self._heads.read(topic, 1, head.sequence, None)
                if reached:
                    return Kept(head.record.position, self._heads.visible(head, stored))
                await anyio.sleep(PAUSE_S)
        raise BackplaneError("a replica does not follow its leader")

    async def follow(
        self, topic: str, rules: TopicRules, seen: Position | None, after: int
    ) -> Followed:
        """Return what came after what a node has seen, and begin a life if needed.

        Args:
            seen: None to learn where the topic stands.
            after: sequence up to which all was seen; 0 if that is not known.
        """
        with anyio.move_on_after(PATIENCE_S):
            while True:
                followed = await self._follow(topic, rules, seen, after)
                if followed is not None:
                    return followed
                await anyio.sleep(PAUSE_S)
        raise BackplaneError("a replica does not follow its leader")

    async def _follow(
        self, topic: str, rules: TopicRules, seen: Position | None, after: int
    ) -> Followed | None:
        head = await self._heads.load(topic)
        last = head.record
        if last is None or (
            seen is not None and last.epoch == seen.epoch and last.offset < seen.offset
        ):
            # Nothing is left, or less than there was: it may be given out again.
            await self._begin(topic, head, rules)
            return None
        top = last.position
        if seen is None:  # just subscribed: what is after the end is wanted
            return Followed(top, [], None, head.sequence)
        is_same = last.epoch == seen.epoch
        start = after + 1 if is_same and after < head.sequence else 1
        stored, reached = await self._heads.read(topic, start, head.sequence, PAGE)
        found = []
        for each in stored:
            delivery = self._heads.parse(each)[1]
            if delivery is None:
                continue
            position = delivery.position
            is_seen = is_same and position.offset <= seen.offset
            if position.epoch == top.epoch and not is_seen:
                found.append(delivery)
        if reached:
            return Followed(top, found, None, head.sequence)
        if found:
            until = found[-1].position.offset
            return Followed(top, found, until, stored[-1].sequence)
        return None  # a replica is behind

    async def _begin(self, topic: str, head: Head, rules: TopicRules) -> None:
        fresh = Record(next(self._epochs), 0, 1, 0, 0, 0)
        with suppress(WrongSequence):  # another node was first
            await self._write(topic, head, fresh, keep_s(rules), None)

    async def look(self, asked: list[tuple[str, TopicRules]]) -> list[Position | None]:
        """Return where topics stand, and renew those that would soon expire."""
        answers: list[Position | None] = [None] * len(asked)

        async def look(at: int) -> None:
            topic, rules = asked[at]
            head = await self._heads.load(topic)
            if head.record is None:
                return
            answers[at] = head.record.position
            if self._wire.server_time() - head.time > keep_s(rules) / 2:
                marker = _marker(head.record)
                with suppress(WrongSequence):  # then it is renewed
                    await self._write(topic, head, marker, keep_s(rules), None)

        for start in range(0, len(asked), READS_AT_ONCE):
            async with anyio.create_task_group() as tasks:
                for at in range(start, min(len(asked), start + READS_AT_ONCE)):
                    tasks.start_soon(look, at)
        return answers

    def _ttl(self, record: Record) -> int:
        return keep_s(
            TopicRules(history_size=1, history_ttl_s=record.ttl_ms / 1000 + 1)
        )

    @asynccontextmanager
    async def _alone(self, topic: str) -> AsyncGenerator[None, None]:
        """One publish of this node to a topic at a time: others would be refused."""
        lock, users = self._locks.get(topic) or (anyio.Lock(), 0)
        self._locks[topic] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(topic)
            if users > 1:
                self._locks[topic] = lock, users - 1


def _kept_from(last: Record | None) -> int:
    return 1 if last is None else last.kept_from


def _marker(last: Record, *, cleared: bool = False) -> Record:
    """Return what keeps a topic's place."""
    return Record(
        last.epoch,
        last.offset,
        last.offset + 1 if cleared else last.kept_from,
        last.size,
        last.max_bytes,
        last.ttl_ms,
    )
