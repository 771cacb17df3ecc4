"""What every outbox must do, whatever its policy: the model that the machines share."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker.config import Overflow
from broker.errors import SlowConsumer
from broker.message import Gap, Item, Message, Position, Share
from broker.state.budget import Budget
from broker.state.conflating import ConflatingOutbox
from broker.state.fifo import FifoOutbox
from broker.state.outbox import Bounds
from broker.stats import Counters

__all__ = ("SETTINGS", "OutboxModel", "Reader")

SETTINGS = settings(
    max_examples=50,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
READERS = 3
INDEX = st.integers(0, READERS - 1)
TOPICS = st.sampled_from("abc")
BOUNDS = st.builds(Bounds, st.integers(1, 6), st.integers(1, 20))
# Some outboxes, most often all of them.
SOME = st.sampled_from([(0, 1, 2), (0, 1, 2), (0, 1), (1, 2), (0,), (2,), ()])


def loss_of(message: Message) -> Gap | None:
    position = message.position
    if position is None:
        return None
    return Gap(message.topic, position.epoch, position.offset, position.offset, 1)


class Log:
    """What a reader has yet to get, in order: messages, and a gap for each loss."""

    def __init__(self) -> None:
        self.entries: list[Item] = []

    @property
    def gaps(self) -> int:
        """How many gaps the losses make if all between two messages are joined."""
        count = 0
        run: set[tuple[str, str]] = set()
        for entry in self.entries:
            if isinstance(entry, Message):
                run.clear()
            elif (key := (entry.topic, entry.epoch)) not in run:
                run.add(key)
                count += 1
        return count

    def lose(self, message: Message) -> None:
        """A message becomes a loss, in the same place."""
        at = next(n for n, entry in enumerate(self.entries) if entry is message)
        gap = loss_of(message)
        self.entries[at : at + 1] = [] if gap is None else [gap]

    def take(self, item: Item) -> None:
        """The reader gets an item: is it its turn, and is it the whole truth?"""
        if isinstance(item, Message):
            assert self.entries[0] is item, "losses before it have not been told"
            del self.entries[0]
            return
        told = []  # losses of the same topic before the next message
        missing = item.missed
        for entry in self.entries:
            if isinstance(entry, Message) or not missing:
                break
            if (entry.topic, entry.epoch) == (item.topic, item.epoch):
                told.append(entry)
                missing -= entry.missed
        assert told
        assert missing == 0
        assert item.first == min(entry.first for entry in told)
        assert item.last == max(entry.last for entry in told)
        self.entries = [e for e in self.entries if all(e is not each for each in told)]


class Reader:
    """One outbox, and what must be true of it."""

    def __init__(
        self, overflow: Overflow, bounds: Bounds, budget: Budget, counters: Counters
    ) -> None:
        self.conflates = overflow is Overflow.CONFLATE
        kind = ConflatingOutbox if self.conflates else FifoOutbox
        self.outbox = kind(overflow, bounds, budget, counters)
        self.bounds = bounds
        self.kept: list[Message] = []  # that wait, in the order they must come out
        self.logs: dict[str, Log] = {}
        self.handed = self.taken = self.dropped = self.refused = self.told = 0
        self.has_ended = False

    def log(self, topic: str) -> Log:
        """In CONFLATE each topic has an order of its own."""
        return self.logs.setdefault(topic if self.conflates else "", Log())

    @property
    def gaps(self) -> int:
        return sum(log.gaps for log in self.logs.values())

    def fits(self, messages: Iterable[Message], gaps: int = 0) -> bool:
        sizes = [message.size_bytes for message in messages]
        return (
            len(sizes) + gaps <= self.bounds.max_messages
            and sum(sizes) <= self.bounds.max_bytes
        )

    def drop(self, message: Message) -> None:
        """A waiting message has been dropped."""
        self.log(message.topic).lose(message)
        self.dropped += 1

    def take(self, item: Item) -> None:
        self.log(item.topic).take(item)
        if isinstance(item, Message):
            assert self.kept.pop(0) is item
            self.taken += 1
        else:
            self.told += item.missed

    def check(self) -> None:
        outbox, waiting = self.outbox, len(self.kept)
        assert outbox.size_bytes == sum(message.size_bytes for message in self.kept)
        assert self.fits(self.kept)
        assert waiting + self.gaps <= len(outbox) <= 2 * self.bounds.max_messages
        assert bool(len(outbox)) == bool(waiting or self.gaps) != outbox.is_empty()
        assert outbox.dropped == self.dropped
        assert outbox.told == self.told
        assert self.handed == self.taken + self.dropped + waiting + self.refused


class OutboxModel(RuleBasedStateMachine):
    """Three outboxes that share messages and a budget."""

    overflow: Overflow

    @initialize(bounds=st.tuples(BOUNDS, BOUNDS, BOUNDS))
    def begin(self, bounds: tuple[Bounds, ...]) -> None:
        self.budget, self.counters = Budget(1_000_000), Counters()
        self.readers = [self.reader(each) for each in bounds]
        self.former: list[Reader] = []
        self.positions = {topic: Position(f"{topic}0", 0) for topic in "abc"}

    def reader(self, bounds: Bounds) -> Reader:
        return Reader(self.overflow, bounds, self.budget, self.counters)

    def accept(self, reader: Reader, message: Message, dropped: int) -> None:
        """Follow an offer that was not refused.

        Asserts that the ``dropped`` messages are the right ones.
        """
        raise NotImplementedError

    def must_refuse(self, reader: Reader, message: Message) -> bool:
        raise NotImplementedError

    def may_refuse(self, reader: Reader, message: Message) -> bool:
        """Asked after evictions: whether the losses to tell are too many."""
        return reader.gaps >= reader.bounds.max_messages

    def hand_out(self, message: Message, to: tuple[int, ...]) -> None:
        readers = [self.readers[n] for n in to if not self.readers[n].has_ended]
        if readers:
            self.budget.hold(message, len(readers))
        for reader in readers:
            self.offer(reader, message)

    def hand_over(self, message: Message, to: tuple[int, ...]) -> None:
        """As ``hand_out``, but one reader at a time."""
        for n in to:
            self.hand_out(message, (n,))

    def offer(self, reader: Reader, message: Message) -> None:
        outbox, before = reader.outbox, reader.outbox.dropped
        has_room = outbox.has_room(message.size_bytes)
        must_refuse = self.must_refuse(reader, message)
        reader.handed += 1
        try:
            outbox.offer(message, message.size_bytes)
        except SlowConsumer:
            for oldest in reader.kept[: outbox.dropped - before]:
                reader.drop(oldest)
                reader.kept.remove(oldest)
            assert not has_room
            assert must_refuse or self.may_refuse(reader, message)
            reader.refused += 1
            reader.has_ended = True
            return
        assert not must_refuse
        assert not has_room or outbox.dropped == before or reader.conflates
        self.accept(reader, message, outbox.dropped - before)

    @rule(topic=TOPICS, size=st.integers(0, 21), to=SOME)
    def publish(self, topic: str, size: int, to: tuple[int, ...]) -> None:
        last = self.positions[topic]
        position = self.positions[topic] = Position(last.epoch, last.offset + 1)
        self.hand_out(Message(topic, "x" * size, position, share=Share(size)), to)

    @rule(topic=TOPICS, to=SOME)
    def publish_small(self, topic: str, to: tuple[int, ...]) -> None:
        self.publish(topic, 1, to)

    @rule(size=st.integers(0, 3), to=SOME)
    def send(self, size: int, to: tuple[int, ...]) -> None:
        """A message without position."""
        self.hand_over(Message("", "x" * size, share=Share(size)), to)

    @rule(topic=TOPICS, count=st.integers(1, 3), hidden=st.integers(0, 2), to=SOME)
    def lose(self, topic: str, count: int, hidden: int, to: tuple[int, ...]) -> None:
        """Messages are lost before they come here; some were not meant for all."""
        last = self.positions[topic]
        until = last.offset + count + hidden
        self.positions[topic] = Position(last.epoch, until)
        gap = Gap(topic, last.epoch, last.offset + 1, until, count)
        for reader in (self.readers[n] for n in to):
            if reader.has_ended:
                continue
            try:
                reader.outbox.tell(gap)
            except SlowConsumer:
                assert reader.gaps >= reader.bounds.max_messages
                reader.has_ended = True
            else:
                reader.log(topic).entries.append(gap)

    @rule(topic=TOPICS, to=SOME)
    def lose_and_publish(self, topic: str, to: tuple[int, ...]) -> None:
        """A loss is most often noticed by the message that comes after it."""
        self.lose(topic, 1, 0, to)
        self.publish_small(topic, to)

    @rule(topic=TOPICS)
    def begin_new_epoch(self, topic: str) -> None:
        number = int(self.positions[topic].epoch[1:]) + 1
        self.positions[topic] = Position(f"{topic}{number}", 0)

    @rule(index=INDEX)
    def take(self, index: int) -> None:
        reader = self.readers[index]
        try:
            item = reader.outbox.take()
        except IndexError:
            assert not reader.kept
            assert not reader.gaps
        else:
            reader.take(item)

    @rule(index=INDEX)
    def poll(self, index: int) -> None:
        reader = self.readers[index]
        item = reader.outbox.poll()
        if item is None:
            assert not reader.kept
            assert not reader.gaps
        else:
            reader.take(item)

    @rule(index=INDEX)
    def take_all(self, index: int) -> None:
        reader = self.readers[index]
        waiting = len(reader.outbox)
        items = reader.outbox.take_all()
        assert len(items) == waiting
        for item in items:
            reader.take(item)
        assert not reader.kept
        assert not reader.gaps
        assert len(reader.outbox) == 0

    @rule(index=INDEX)
    def replace(self, index: int) -> None:
        """A reader leaves without reading, and another one comes."""
        reader = self.readers[index]
        reader.outbox.clear()
        assert (len(reader.outbox), reader.outbox.size_bytes) == (0, 0)
        self.former.append(reader)
        self.readers[index] = self.reader(reader.bounds)

    @rule()
    def replace_ended(self) -> None:
        for index, reader in enumerate(self.readers):
            if reader.has_ended:
                self.take_all(index)
                self.replace(index)

    @invariant()
    def agrees(self) -> None:
        for reader in self.readers:
            reader.check()
        held = {id(each): each for reader in self.readers for each in reader.kept}
        assert self.budget.used_bytes == sum(each.size_bytes for each in held.values())
        everybody = [*self.readers, *self.former]
        dropped = sum(reader.dropped for reader in everybody)
        assert sum(self.counters.dropped.values()) == dropped
        assert self.counters.dropped[self.overflow] == dropped
        assert self.counters.missed == sum(reader.told for reader in everybody)

    def teardown(self) -> None:
        """In the end everybody has got or been told everything, and nothing is held."""
        for index in range(READERS):
            self.take_all(index)
        assert self.budget.used_bytes == 0
