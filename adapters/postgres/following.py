"""All that a node is subscribed to in PostgreSQL, kept live by reading one log."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator

import anyio
import anyio.lowlevel

from adapters.backplane.behind import Behind
from adapters.backplane.body import Delivery, decode_body
from adapters.backplane.poison import Poison, Poisoned
from adapters.backplane.track import Track
from broker.backplane import Node
from broker.config import TopicRules
from broker.errors import BackplaneError, InvalidTopic
from broker.message import Position
from broker.topics import check_pattern, is_pattern, matches

from .session import Connection
from .statements import Entry, Kept, Log, Statements, seen_of
from .wire import Wire

__all__ = ("Following", "decode_entries")

# Guesses. A page of the largest messages is 6.5 MB; so many topics are read at once.
PAGE = 100
READ_AT_ONCE = 20
NAMES_AT_ONCE = 500  # in one statement: it holds up all that publish
MAX_WANTED = 200  # topics that are named to the server; with more, all is read


class Following:
    """The topics and patterns of one node, and how far it has read the log.

    Args:
        statements: of the schema.
        node: gets the messages.
        sender: what this node's news begins with.
        poisoned: counts what is skipped.

    Attributes:
        outbox: set when something waits in the outbox.
    """

    def __init__(
        self, statements: Statements, node: Node, sender: bytes, poisoned: Poisoned
    ) -> None:
        self.outbox = anyio.Event()
        self._statements = statements
        self._node = node
        self._sender = sender
        self._poisoned = poisoned
        self._tracks: dict[str, Track] = {}
        self._patterns: dict[str, None] = {}
        self._additions = 0  # how often a name has come to these two
        self._behind = Behind()  # topics whose history must be read
        self._life: str | None = None  # of the database
        self._cursor = 0  # seq up to which the log has been read
        self._news_after = 0  # seq; news of before is not for this node
        self._moved = anyio.Event()  # the cursor has

    def __len__(self) -> int:
        return len(self._tracks)

    async def subscribe(
        self, wire: Wire, name: str, rules: TopicRules
    ) -> Position | None:
        """Follow a topic or pattern; see ``Link.subscribe``.

        Cancellation: it is not followed.
        """
        try:
            if is_pattern(name):
                self._patterns[name] = None
                self._additions += 1
                await anyio.lowlevel.checkpoint()
                return None
            # Follow first, then look where the topic is.
            track = self._tracks[name] = Track(name, rules)
            self._additions += 1
            older, seen = len(track.held or ()), [seen_of(name, rules, None)]
            ((top, head),) = await wire.ask(lambda c: self._statements.open(c, seen))
            if self._patterns:  # which get what is before that by way of the log only
                await self._pass(wire, head)
            if not track.resume(top, [], until=None, older=older, node=self._node):
                await self._catch_up(wire, [track])
            return top  # the track may be further already
        except BaseException:
            self.unsubscribe(name)
            raise

    def unsubscribe(self, name: str) -> None:
        """Follow a topic or pattern no longer."""
        self._patterns.pop(name, None)
        track = self._tracks.pop(name, None)
        if track is None or track.position is None:
            return
        for held in track.held or ():  # patterns have not had it yet
            self._hand_to_patterns(name, held)

    async def begin(self, wire: Wire) -> None:
        """Find out where to read on, on a new connection.

        That is where the last one ended, if all of it is still there.
        """
        life, head, swept = await wire.ask(self._statements.begin)
        if life != self._life or not swept <= self._cursor <= head:
            self._life = life
            self._cursor = head
        self._news_after = head

    async def read(self, wire: Wire, every_s: float) -> None:
        """Read the log and hand it on, until the connection fails: it always raises.

        Args:
            every_s: look at least so often, should a notification be lost (s, > 0).

        Raises:
            BackplaneError: the connection has failed, or the log cannot be read on.
        """
        wait_s, names = 0.0, self._wanted()
        while True:
            additions = self._additions
            log = await wire.read_log(self._cursor, names, wait_s)
            if names is not None and additions != self._additions:
                # Something for the new one may have been passed over.
                wait_s, names = 0.0, None
                continue
            self.take(log)
            wait_s = every_s if log.upto >= log.head else 0.0
            names = self._wanted()

    def take(self, log: Log) -> None:
        """Hand on a piece of the log.

        Raises:
            BackplaneError: the next piece is not in it.
        """
        if log.swept > self._cursor:
            raise BackplaneError("what was to be read next has been deleted")
        if log.head < self._cursor:
            raise BackplaneError("the log has gone back")
        for entry in log.entries:
            self._push(entry)
        self._cursor = log.upto
        self._moved.set()
        self._moved = anyio.Event()
        if log.has_outbox:
            self.outbox.set()

    def _wanted(self) -> list[str] | None:
        if self._patterns or len(self._tracks) > MAX_WANTED:
            return None
        return list(self._tracks)

    def _push(self, entry: Entry) -> None:
        if entry.is_news:
            if entry.seq > self._news_after and not entry.body.startswith(self._sender):
                self._node.hear(entry.body[len(self._sender) :])
            return
        if entry.topic is None:
            return  # of a life that is over, of which its subscribers are told
        track = self._tracks.get(entry.topic)
        if track is None and not self._patterns:
            return
        try:
            position = Position(entry.epoch, entry.offset)
            delivery = decode_body(entry.topic, position, entry.body)
            if track is None or track.position is None:
                self._hand_to_patterns(entry.topic, delivery)
        except (Poison, InvalidTopic) as problem:
            self._poisoned.add(ascii(entry.topic[:80]), problem)
            return
        if track is None:
            return
        was_live = track.held is None
        if not track.arrive(delivery, self._node) and was_live:
            self._behind.add(track.topic)

    def _hand_to_patterns(self, topic: str, delivery: Delivery) -> None:
        check_pattern(topic)  # others may have written it
        if is_pattern(topic):
            raise Poison("no topic has a wildcard")
        if any(matches(pattern, topic) for pattern in self._patterns):
            self._node.deliver(delivery.message, delivery.exclude)

    async def resume(self, wire: Wire) -> None:
        """Make up for what was missed, once the log is read again."""
        tracks = list(self._tracks.values())
        await self._pass(wire, self._news_after)
        for some in _chunks(tracks):
            await self._compare(wire, some)
        self._behind.clear()
        behind = [each for each in tracks if each.held is not None]
        await self._catch_up(wire, behind)

    async def keep_up(self, wire: Wire) -> None:
        """Read the history of topics in which a hole was found, until cancelled."""
        while True:
            topics = await self._behind.take()
            tracks = [self._tracks[each] for each in topics if each in self._tracks]
            await self._catch_up(wire, tracks)

    async def compare(self, wire: Wire, every_s: float) -> None:
        """Look for what was lost without a trace, and keep topics, until cancelled."""
        while True:
            # All nodes at once would be a load.
            await anyio.sleep(every_s * random.uniform(0.75, 1.25))
            for tracks in _chunks(list(self._tracks.values())):
                await self._compare(wire, tracks)

    async def _compare(self, wire: Wire, tracks: list[Track]) -> None:
        for track, top in await self._open(wire, tracks):
            if track.held is None and track.is_behind(top):
                track.fall_behind()
                self._behind.add(track.topic)

    async def _open(
        self, wire: Wire, tracks: list[Track]
    ) -> list[tuple[Track, Position]]:
        """Return where topics end, when all up to there has been read."""
        seen = [seen_of(each.topic, each.rules, each.position) for each in tracks]
        tops = await wire.ask(lambda c: self._statements.open(c, seen))
        await self._pass(wire, max((head for _, head in tops), default=0))
        return list(zip(tracks, (top for top, _ in tops), strict=True))

    async def _pass(self, wire: Wire, seq: int) -> None:
        """Wait until the log has been read up to there.

        Raises:
            BackplaneError: it was not, in time.
        """
        try:
            while self._cursor < seq:
                with anyio.fail_after(wire.timeout_s):
                    await self._moved.wait()
        except TimeoutError as error:
            raise BackplaneError("the log was not read in time") from error

    async def _catch_up(self, wire: Wire, tracks: Iterable[Track]) -> None:
        """Read and deliver what tracks have missed, until they are live."""
        waiting = deque(tracks)
        while waiting:
            batch = [waiting.popleft() for _ in range(min(READ_AT_ONCE, len(waiting)))]
            batch = [each for each in batch if self._tracks.get(each.topic) is each]
            older = [len(each.held or ()) for each in batch]
            answers = await wire.ask(lambda c, b=batch: self._read(c, b))  # type: ignore[misc] # bound
            # What was published before that has to be here first.
            await self._pass(wire, max((each.head for each in answers), default=0))
            for track, count, kept in zip(batch, older, answers, strict=True):
                if self._tracks.get(track.topic) is not track:
                    continue  # it was left meanwhile
                top = kept.top
                found = decode_entries(track.topic, kept, self._poisoned)
                is_page = len(kept.entries) >= PAGE
                until = kept.entries[-1][0] if is_page else None
                if not track.resume(
                    top, found, until=until, older=count, node=self._node
                ):
                    waiting.append(track)

    def _read(self, connection: Connection, tracks: list[Track]) -> list[Kept]:
        """Run in the thread: nobody changes a track meanwhile but to hold more."""
        answers = []
        seen = [seen_of(each.topic, each.rules, each.position) for each in tracks]
        tops = self._statements.open(connection, seen) if seen else []
        for track, (top, head) in zip(tracks, tops, strict=True):
            kept = None
            if track.position is not None:  # else just subscribed: from now on
                kept = self._statements.history(
                    connection, track.topic, track.position, PAGE, False
                )
            answers.append(kept or Kept(top, 0, head, []))
        return answers


def decode_entries(topic: str, kept: Kept, poisoned: Poisoned) -> list[Delivery]:
    """Return the messages of a history, without what is none."""
    found = []
    for offset, body in kept.entries:
        try:
            found.append(decode_body(topic, Position(kept.top.epoch, offset), body))
        except Poison as problem:
            poisoned.add(topic, problem)
    return found


def _chunks(items: list[Track]) -> Iterator[list[Track]]:
    for start in range(0, len(items), NAMES_AT_ONCE):
        yield items[start : start + NAMES_AT_ONCE]
