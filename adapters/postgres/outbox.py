"""What applications have put into the outbox, published once and in its order."""

from __future__ import annotations

from typing import Any

from adapters.backplane.poison import Poisoned
from broker.backplane import Publication
from broker.config import Limits, RuleBook
from broker.errors import InvalidTopic, UsageError
from broker.message import Payload
from broker.topics import check_topic

from .session import Connection
from .statements import Item, Statements, item_of

__all__ = ("Dispatcher",)

AT_ONCE = 100  # messages in one transaction (guesses)
AT_ONCE_BYTES = 4_194_304


class Dispatcher:
    """Moves what is in the outbox into the log.

    One transaction takes and publishes, so each is published exactly once, whoever
    dies; and one node at a time, so they keep their order.

    Args:
        schema: of the tables.
        statements: of the same.
        rules: of the topics.
        limits: as the node's.
        poisoned: counts what cannot be published, and is deleted.
    """

    def __init__(
        self,
        schema: str,
        statements: Statements,
        rules: RuleBook,
        limits: Limits,
        poisoned: Poisoned,
    ) -> None:
        self._statements = statements
        self._rules = rules
        self._limits = limits
        self._poisoned = poisoned
        self._lock_name = f"asgi-broker {schema}"
        # Whoever may insert there need not call publish(): what is no topic, or is too
        # large, is not read.
        self._take = f"""
SELECT id, CASE WHEN topic COLLATE "C" ~ '^[!-~]{{1,255}}$' THEN topic END, size,
  CASE WHEN size <= %(limit)s THEN payload END, is_text
FROM (
  SELECT *, sum(least(size, %(limit)s)) OVER (ORDER BY id) AS upto FROM (
    SELECT *, octet_length(payload) AS size FROM {schema}.outbox
    ORDER BY id LIMIT {AT_ONCE}
  ) page
) page WHERE upto - least(size, %(limit)s) < %(bytes)s ORDER BY id
""".encode()
        self._delete = f"DELETE FROM {schema}.outbox WHERE id = ANY (%s)".encode()

    def drain(self, connection: Connection) -> bool:
        """Publish some. Returns whether there may be more for this node to do."""
        with connection.transaction():
            row = connection.execute(
                "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 1))",
                (self._lock_name,),
            ).fetchone()
            if row is None or not row[0]:
                return False  # another node is at it
            rows = self.look(connection)
            batch = []
            for number, topic, size, payload, is_text in rows:
                try:
                    batch.append(self._item(topic, size, payload, is_text))
                except (UnicodeDecodeError, UsageError) as problem:
                    self._poisoned.add(f"the outbox, row {number}", problem)
            if rows:
                self._statements.publish(batch, connection, 1.0)
                connection.execute(self._delete, ([row[0] for row in rows],))
        return bool(rows)

    def look(self, connection: Connection) -> list[tuple[Any, ...]]:
        """Return the oldest rows: id, topic, size, payload, and whether it is text.

        The topic is None where it is none, and the payload where it is too large.
        """
        given = {"limit": self._limits.max_message_bytes, "bytes": AT_ONCE_BYTES}
        return connection.execute(self._take, given, binary=True).fetchall()

    def _item(
        self, topic: str | None, size: int, given: bytes | None, is_text: bool
    ) -> Item:
        if topic is None:
            raise InvalidTopic("", 0, "not of 1 to 255 printable ASCII characters")
        check_topic(topic)
        if given is None:
            limit = self._limits.max_message_bytes
            raise InvalidTopic(
                topic, 0, f"its payload has {size} B; the limit is {limit} B"
            )
        payload: Payload = given.decode() if is_text else given
        rules = self._rules.of(topic)
        return item_of(
            Publication(topic=topic, payload=payload, size_bytes=size, rules=rules)
        )
