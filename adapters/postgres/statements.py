"""What nodes ask of PostgreSQL. All of it blocks: only in a worker thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from adapters.backplane.body import encode_body
from broker.backplane import Publication, Published
from broker.config import TopicRules
from broker.message import Position

from .session import Connection

__all__ = (
    "LINGER_S",
    "Entry",
    "Item",
    "Kept",
    "Log",
    "Seen",
    "Statements",
    "item_of",
    "keep_s",
    "seen_of",
)

# How long a topic that nobody has touched keeps its epoch (s, a guess); well above the
# time between two comparisons, each of which touches it.
LINGER_S = 120.0
LONGEST_S = 1e9  # 32 years: beyond some 290,000, timestamps end
MOST = 2**62  # of a bigint: more than that is no limit

LOG_COUNT = 500  # messages of the log that are read at once (guesses)
LOG_BYTES = 4_194_304


class Entry(NamedTuple):
    """A message as the log has it; ``topic`` is None for news, and for a life over."""

    seq: int
    is_news: bool
    topic: str | None
    epoch: str
    offset: int
    body: bytes


class Log(NamedTuple):
    """A piece of the log.

    Attributes:
        upto: the entries are all there are up to this seq.
        head: seq of the last message when it was read.
        swept: what is not history is missing up to this seq.
        has_outbox: something waits there.
    """

    upto: int
    head: int
    swept: int
    has_outbox: bool
    entries: list[Entry]


class Kept(NamedTuple):
    """What history has after a position, and where the topic stood at that moment.

    Attributes:
        kept_from: offset from which on everything is kept.
        head: seq of the last message.
        entries: offset and body of each message.
    """

    top: Position
    kept_from: int
    head: int
    entries: list[tuple[int, bytes]]


class Item(NamedTuple):
    """A publication as it is written.

    Attributes:
        publication: as it was asked for.
        body: as nodes read it.
        message_id: the same as bytes, which PostgreSQL's text could not always hold.
    """

    publication: Publication
    body: bytes
    message_id: bytes | None


class Seen(NamedTuple):
    """A topic that a node follows, and how far it has come; offset 0 if nowhere."""

    topic: str
    keep_s: float
    epoch: str
    offset: int


class Statements:
    """The calls of one schema's functions."""

    def __init__(self, schema: str) -> None:
        # As bytes: psycopg takes text only if it is written in the code as it stands.
        self._append = (
            f"SELECT * FROM {schema}.append(%s::text[], %b, %s::int[], %s::bigint[],"
            " %s::bigint[], %s::float[], %s::float[], %b::bytea[], %s::float)"
        ).encode()
        self._log = f"""
SELECT s.head, s.swept, EXISTS (SELECT FROM {schema}.outbox), m.seq, m.topic_id = 0,
  m.name, m.epoch, m.off, m.body, m.size
FROM {schema}.state s LEFT JOIN LATERAL (
  SELECT *, sum(page.size) OVER (ORDER BY page.seq) - page.size AS before FROM (
    SELECT m.*, t.name, t.epoch FROM {schema}.message m
    LEFT JOIN {schema}.topic t ON t.id = m.topic_id
    WHERE m.seq > %(after)s AND m.seq <= s.head AND (
      m.topic_id = 0 OR %(names)s::text[] IS NULL OR t.name = ANY (%(names)s))
    ORDER BY m.seq LIMIT {LOG_COUNT}
  ) page
) m ON m.before < {LOG_BYTES} ORDER BY m.seq
""".encode()
        self._open = (
            f"SELECT * FROM {schema}.open_topics(%s::text[], %s::float[], %s::text[],"
            " %s::bigint[])"
        ).encode()
        self._history = f"SELECT * FROM {schema}.history(%s, %s, %s, %s, %s)".encode()
        self._clear = f"SELECT {schema}.clear(%s)".encode()
        self._tell = f"SELECT {schema}.tell(%b)".encode()
        self._sweep = f"SELECT {schema}.sweep(%s, %s, %s)".encode()
        self._begin = (
            f"SELECT {schema}.life(), head, swept FROM {schema}.lock()".encode()
        )
        self._listen = f"LISTEN {schema}".encode()

    def publish(
        self, batch: list[Item], connection: Connection, remember_s: float
    ) -> list[Published]:
        """Publish all of them, or none; with none, check the connection."""
        if not batch:
            connection.execute("SELECT 1")
            return []
        # By topic, because a topic's row is then looked up once; each topic's stay in
        # their order.
        order = sorted(
            range(len(batch)), key=lambda index: batch[index].publication.topic
        )
        items = [batch[index] for index in order]
        by_topic = [each.publication for each in items]
        rules = [each.rules for each in by_topic]
        rows = connection.execute(
            self._append,
            (
                [each.topic for each in by_topic],
                [each.body for each in items],
                [each.size_bytes for each in by_topic],
                [int(min(each.history_size, MOST)) for each in rules],
                [int(min(each.history_bytes, MOST)) for each in rules],
                [min(each.history_ttl_s, LONGEST_S) for each in rules],
                [keep_s(each) for each in rules],
                [each.message_id for each in items],
                min(remember_s, LONGEST_S),
            ),
        ).fetchall()
        answers: list[Any] = [None] * len(batch)
        for index, (epoch, offset, duplicate) in zip(order, rows, strict=True):
            answers[index] = Published(Position(epoch, offset), duplicate)
        return answers

    def begin(self, connection: Connection) -> tuple[str, int, int]:
        """Return the life of the database, the log's head, and what is swept."""
        row = connection.execute(self._begin).fetchone()
        assert row is not None
        return row[0], row[1], row[2]

    def listen(self, connection: Connection) -> None:
        """Have notifications sent to this connection."""
        connection.execute(self._listen)

    def read_log(
        self,
        connection: Connection,
        after: int,
        names: list[str] | None,
        wait_s: float,
    ) -> Log:
        """Return what has been published after a seq, when there may be something.

        Args:
            names: of topics, the only ones that are wanted; None for all.
            wait_s: longest wait for a notification (s, >= 0).
        """
        if wait_s:
            for _ in connection.notifies(timeout=wait_s, stop_after=1):
                pass
        rows = connection.execute(
            self._log, {"after": after, "names": names}, binary=True
        ).fetchall()
        if not rows:  # the state was truncated
            return Log(0, 0, 0, False, [])
        head, swept, has_outbox = rows[0][:3]
        found = [row for row in rows if row[3] is not None]
        is_all = len(found) < LOG_COUNT and sum(row[9] for row in found) < LOG_BYTES
        upto = max(after, head) if is_all else found[-1][3]
        entries = [Entry(*row[3:9]) for row in found]
        return Log(upto, head, swept, has_outbox, entries)

    def open(
        self, connection: Connection, topics: Sequence[Seen]
    ) -> list[tuple[Position, int]]:
        """Keep topics alive, new ones too. Returns for each its end and the log's."""
        rows = connection.execute(
            self._open,
            (
                [each.topic for each in topics],
                [each.keep_s for each in topics],
                [each.epoch for each in topics],
                [each.offset for each in topics],
            ),
        )
        return [(Position(epoch, last), head) for epoch, last, head in rows]

    def history(
        self,
        connection: Connection,
        topic: str,
        since: Position | None,
        limit: int | None,
        is_reverse: bool,
    ) -> Kept | None:
        """Return what is kept; None if nothing is remembered of the topic."""
        epoch, offset = (None, 0) if since is None else (since.epoch, since.offset)
        rows = connection.execute(
            self._history, (topic, epoch, offset, limit, is_reverse), binary=True
        ).fetchall()
        if not rows:
            return None
        (epoch, last, kept_from, head, _, _), *rest = rows
        entries = [(row[4], row[5]) for row in rest]
        return Kept(Position(epoch, last), kept_from, head, entries)

    def clear(self, connection: Connection, topic: str) -> None:
        """Forget a topic's messages."""
        connection.execute(self._clear, (topic,))

    def tell(self, connection: Connection, news: bytes) -> None:
        """Have all nodes hear it."""
        connection.execute(self._tell, (news,))

    def sweep(
        self, connection: Connection, linger_s: float, every_s: float, max_count: int
    ) -> bool:
        """Delete what nobody needs any more. Returns whether there is more of it."""
        row = connection.execute(self._sweep, (linger_s, every_s, max_count)).fetchone()
        return row is not None and bool(row[0])


def item_of(publication: Publication) -> Item:
    """Return a publication as it is written.

    Raises:
        UnicodeEncodeError: lone surrogates.
    """
    given = publication.message_id
    message_id = None if given is None else given.encode()
    return Item(publication, encode_body(publication), message_id)


def keep_s(rules: TopicRules) -> float:
    """Return how long a topic keeps its epoch when nobody touches it (s)."""
    ttl_s = rules.history_ttl_s if rules.history_size else 0.0
    return min(max(LINGER_S, ttl_s), LONGEST_S)


def seen_of(topic: str, rules: TopicRules, position: Position | None) -> Seen:
    """Return what the server is told of a topic that a node follows."""
    if position is None:
        return Seen(topic, keep_s(rules), "", 0)
    return Seen(topic, keep_s(rules), position.epoch, position.offset)
