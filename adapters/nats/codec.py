"""Topics and members as subjects of NATS, and what is kept under them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, NamedTuple

import msgspec

from adapters.backplane.body import Delivery, decode_body
from adapters.backplane.poison import Poison
from broker.config import TopicRules
from broker.message import Position

__all__ = (
    "LONGEST_S",
    "MOST",
    "Head",
    "Names",
    "Push",
    "Record",
    "decode_head",
    "decode_known",
    "decode_push",
    "encode_known",
    "encode_record",
)

LINGER_S = 600  # a topic that nobody touches keeps its epoch so long (guess)
MOST = 2**53  # more than that is no limit
LONGEST_S = 1_000_000_000  # 32 years; NATS counts nanoseconds, up to 292
_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
_Epoch = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Names:
    """Streams and subjects under one prefix.

    Topics have NATS' own grammar: segments split by dots, none of them empty, and no
    blanks or wildcards in them. So a topic is the end of a subject as it is.
    """

    def __init__(self, prefix: str) -> None:
        self.log = f"{prefix}-log"
        self.leases = f"{prefix}-presence"
        self.news = f"{prefix}.news"
        self.topics = f"{prefix}.t.>"
        self.ids = f"{prefix}.i.*"
        self.members = f"{prefix}.p.>"
        self.pushes = f"{prefix}.r.>"
        self._prefix = prefix

    def topic(self, topic: str) -> str:
        """Return the subject under which a topic's messages are kept."""
        return f"{self._prefix}.t.{topic}"

    def push(self, topic: str) -> str:
        """Return the subject on which the server tells what it has kept."""
        return f"{self._prefix}.r.{topic}"

    def topic_of(self, subject: str) -> str:
        """Return the topic that a push is of."""
        return subject[len(self._prefix) + 3 :]

    def message_id(self, topic: str, message_id: str) -> str:
        """Return the subject that remembers an id. No topic has a space in it."""
        return f"{self._prefix}.i.{_digest(f'{topic} {message_id}')}"

    def member(self, topic: str, client_id: str) -> str:
        """Return the subject of a member's lease."""
        return f"{self._prefix}.p.{_digest(client_id)}.{topic}"

    def members_of(self, topic: str) -> str:
        """Return what covers the leases of a topic's members."""
        return f"{self._prefix}.p.*.{topic}"


def _digest(text: str) -> str:
    # Ids are any text of any length; subjects are not.
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


class Record(msgspec.Struct, array_like=True, frozen=True):
    """What is kept under a topic's subject.

    Attributes:
        epoch: of the topic.
        offset: of this message; of the one before for a record without ``body``,
            which only keeps the topic's place.
        kept_from: offset from which on messages are history.
        size: most messages of it, as the rules said when this was written.
        max_bytes: likewise.
        ttl_ms: likewise.
        body: see ``adapters.backplane.body``.
    """

    epoch: _Epoch
    offset: _Count
    kept_from: _Count
    size: _Count
    max_bytes: _Count
    ttl_ms: _Count
    body: bytes | None = None

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.offset)


class _Known(msgspec.Struct, array_like=True, frozen=True):
    epoch: _Epoch
    offset: _Count


class Push(NamedTuple):
    """What the server has told of a topic.

    Attributes:
        sequence: in the stream.
        delivery: None for a record without a message.
    """

    topic: str
    sequence: int
    record: Record
    delivery: Delivery | None


@dataclass(frozen=True, slots=True)
class Head:
    """The last thing that is kept of a topic.

    Attributes:
        sequence: in the stream; 0 if there is nothing.
        record: None if no broker has written it.
        time: when the server got it (s, since 1970, its clock).
    """

    sequence: int
    record: Record | None
    time: float


_encoder = msgspec.msgpack.Encoder()
_record_decoder = msgspec.msgpack.Decoder(Record)
_known_decoder = msgspec.msgpack.Decoder(_Known)


def encode_record(record: Record) -> bytes:
    """Return a record as it is kept."""
    return _encoder.encode(record)


def decode_head(data: bytes) -> Record:
    """Return a record.

    Raises:
        Poison: it is none.
    """
    try:
        return _record_decoder.decode(data)
    except msgspec.DecodeError as error:
        raise Poison(f"no record: {error}") from error


def decode_push(topic: str, headers: Mapping[str, str] | None, data: bytes) -> Push:
    """Return what was pushed.

    Raises:
        Poison: no broker has written it, or no stream has kept it.
    """
    try:
        sequence = int((headers or {}).get("Nats-Sequence", ""))
    except ValueError as error:
        raise Poison("not from the stream") from error
    record = decode_head(data)
    return Push(topic, sequence, record, delivery_of(topic, record))


def delivery_of(topic: str, record: Record) -> Delivery | None:
    """Return a record's message; None without one.

    Raises:
        Poison: it is none.
    """
    if record.body is None:
        return None
    return decode_body(topic, record.position, record.body)


def encode_known(position: Position) -> bytes:
    """Return what is remembered of a message id."""
    return _encoder.encode(_Known(position.epoch, position.offset))


def decode_known(data: bytes) -> Position | None:
    """Return where the message with an id stands; None if no broker wrote this."""
    try:
        found = _known_decoder.decode(data)
    except msgspec.DecodeError:
        return None
    return Position(found.epoch, found.offset)


def keep_s(rules: TopicRules) -> int:
    """Return how long what is published is kept at most (s)."""
    if not rules.history_size:
        return LINGER_S
    return max(LINGER_S, int(min(rules.history_ttl_s, LONGEST_S)) + 1)
