"""Messages and members as bytes, and names as keys and channels of Redis."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

import msgspec

from broker.backplane import Publication
from broker.message import NO_HEADERS, Message, Position, Share
from broker.state.presence import Member

__all__ = (
    "Delivery",
    "Names",
    "Poison",
    "decode_body",
    "decode_member",
    "decode_push",
    "encode_body",
    "encode_member",
    "glob_of",
)

# What the publish script writes before the body: epoch, offset. An offset is at most
# 2**53, because that is where Lua's numbers stop counting by one.
_PUSH = re.compile(rb"([0-9a-f]{1,64}) ([1-9][0-9]{0,15}) (.*)", re.DOTALL)
_GLOB_SPECIAL = re.compile(r"([\[\]?\\])")


class Poison(Exception):
    """Something under our names that no broker has written."""


class Delivery(NamedTuple):
    """A message on its way to a node, and who is not to get it."""

    message: Message
    position: Position
    exclude: str | None


class _Body(msgspec.Struct, array_like=True, frozen=True):
    """A publication, the same in the channel and in the stream."""

    payload: bytes
    is_text: bool
    size_bytes: Annotated[int, msgspec.Meta(ge=0)]
    exclude: str | None = None
    headers: dict[str, str] | None = None


class _Member(msgspec.Struct, array_like=True, frozen=True):
    user: str | None
    info: str


_encoder = msgspec.msgpack.Encoder()
_body_decoder = msgspec.msgpack.Decoder(_Body)
_member_decoder = msgspec.msgpack.Decoder(_Member)


class Names:
    """Keys and channels under one prefix.

    The kind of a key comes before the topic, so no topic can be taken for a key of
    another kind.

    Args:
        prefix: of everything; brokers that share it are one broker.
        database: number of the logical database. Keys live in one, channels in all of
            them, so its number is part of a channel's name.
    """

    def __init__(self, prefix: str, database: int) -> None:
        self._prefix = prefix
        self._channels = f"{prefix}:{database}:c:"
        self._channel_bytes = self._channels.encode()
        self.news = f"{prefix}:{database}:news"  # every node is subscribed

    def stream(self, topic: str) -> list[str]:
        """Return the keys of a topic's life and of its kept messages."""
        return [f"{self._prefix}:t:{topic}", f"{self._prefix}:s:{topic}"]

    def message_id(self, topic: str, message_id: str) -> str:
        """Return the key that remembers an id. No topic has a space in it."""
        return f"{self._prefix}:i:{topic} {message_id}"

    def presence(self, topic: str) -> list[str]:
        """Return the keys of a topic's members and of their leases."""
        return [f"{self._prefix}:p:{topic}", f"{self._prefix}:l:{topic}"]

    def channel(self, topic: str) -> str:
        """Return the channel on which a topic's messages are pushed."""
        return self._channels + topic

    def glob(self, pattern: str) -> str:
        """Return the glob of all channels that a pattern covers, and of some more."""
        return glob_of(self._channels) + glob_of(pattern, is_pattern=True)

    def topic_of(self, channel: bytes) -> str:
        """Return a channel's topic.

        Raises:
            Poison: it is not a channel of ours.
        """
        if not channel.startswith(self._channel_bytes) or not channel.isascii():
            raise Poison(f"no topic is named {channel[:80]!r}")
        return channel[len(self._channel_bytes) :].decode("ascii")


def glob_of(text: str, *, is_pattern: bool = False) -> str:
    """Return a glob for a literal text, or for a pattern of topics.

    Redis knows no segments: its ``*`` runs across dots. What it lets through beyond the
    pattern is for ``broker.topics.matches`` to hold back.
    """
    glob = _GLOB_SPECIAL.sub(r"\\\1", text)
    if not is_pattern:
        return glob.replace("*", r"\*")
    return glob.removesuffix(">") + "*" if glob.endswith(">") else glob


def encode_body(publication: Publication) -> bytes:
    """Return a publication as what nodes send each other."""
    payload = publication.payload
    return _encoder.encode(
        _Body(
            payload.encode() if isinstance(payload, str) else payload,
            isinstance(payload, str),
            publication.size_bytes,
            publication.exclude,
            dict(publication.headers) or None,
        )
    )


def decode_body(topic: str, position: Position, body: bytes) -> Delivery:
    """Return the message of a body.

    Raises:
        Poison: it is none.
    """
    try:
        found = _body_decoder.decode(body)
        payload = found.payload.decode() if found.is_text else found.payload
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Poison(f"no message: {error}") from error
    message = Message(
        topic,
        payload,
        position,
        found.headers or NO_HEADERS,
        share=Share(found.size_bytes),
    )
    return Delivery(message, position, found.exclude)


def decode_push(topic: str, data: bytes) -> Delivery:
    """Return the message that was pushed on a topic's channel.

    Raises:
        Poison: it is none.
    """
    parts = _PUSH.fullmatch(data)
    if parts is None:
        raise Poison("no position")
    position = Position(parts[1].decode("ascii"), int(parts[2]))
    return decode_body(topic, position, parts[3])


def encode_member(member: Member) -> bytes:
    """Return a member without its id, which is the field it is kept under."""
    return _encoder.encode(_Member(member.user, member.info))


def decode_member(client_id: bytes, value: bytes) -> tuple[int, Member]:
    """Return when a member has joined (µs, the server's clock), and the member.

    Raises:
        Poison: no node has written it.
    """
    joined, _, body = value.partition(b" ")
    try:
        found = _member_decoder.decode(body)
        return int(joined), Member(client_id.decode(), found.user, found.info)
    except (msgspec.DecodeError, ValueError) as error:
        raise Poison(f"no member: {error}") from error
