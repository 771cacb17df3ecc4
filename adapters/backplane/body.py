"""Messages and members as bytes that nodes leave in an engine for each other."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec

from broker.backplane import Publication
from broker.message import NO_HEADERS, Message, Position, Share
from broker.state.presence import Member

from .poison import Poison

__all__ = (
    "Delivery",
    "decode_body",
    "decode_member",
    "encode_body",
    "encode_member",
)


class Delivery(NamedTuple):
    """A message on its way to a node, and who is not to get it."""

    message: Message
    position: Position
    exclude: str | None


class _Body(msgspec.Struct, array_like=True, frozen=True):
    """A publication, the same where it is kept and where it is pushed."""

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


def encode_member(member: Member) -> bytes:
    """Return a member without its id, which is the field it is kept under."""
    return _encoder.encode(_Member(member.user, member.info))


def decode_member(client_id: str, body: bytes) -> Member:
    """Return a member.

    Raises:
        Poison: no node has written it.
    """
    try:
        found = _member_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise Poison(f"no member: {error}") from error
    return Member(client_id, found.user, found.info)
