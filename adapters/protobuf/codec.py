"""The Protobuf form of the client protocol: bytes to commands, values to bytes.

Where ``broker.protocol.codec`` has JSON in a ``Raw``, this has any bytes: see
``data_of`` and ``payload_of``. Every command, reply and push is preceded by its length,
so that frames are joined by putting them one behind the other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Encoded
from msgspec import Raw

from broker.message import Payload
from broker.protocol import frames
from broker.protocol.codec import BadFrame

from .schema import FIELDS, REQUESTS, Command, Field, Reply, Shape, name_of

__all__ = (
    "PING",
    "data_of",
    "decode_commands",
    "encode_push",
    "encode_reply",
    "join",
    "payload_of",
)

PING = b"\x00"  # a reply that says nothing: nothing is its length

_PONG = frames.Command(0, frames.Pong())
_MAX_OFFSET = 2**63 - 1
_VARINT_BYTES = 10  # Source: Protobuf's encoding: 64 bits, seven in each byte

KindT = TypeVar("KindT", bound=frames.Frame)
_Read: TypeAlias = Callable[[Any, int], Any]  # of a value, with levels left
_Write: TypeAlias = Callable[[Any], Any]


# --- Payloads ---


def payload_of(data: Raw) -> Payload:
    """Return what a client sent as what is published: text if it is valid UTF-8.

    Then it is the same to clients of the JSON form as what they send themselves.
    """
    sent = bytes(data)
    try:
        return sent.decode()
    except UnicodeDecodeError:
        return sent


def data_of(payload: Payload) -> Raw:
    """Return any payload as it is: text as UTF-8, without quotes around it.

    Raises:
        UnicodeEncodeError: a str with lone surrogates, which ``publish`` refuses too.
    """
    return Raw(payload.encode() if isinstance(payload, str) else payload)


# --- From clients ---


def decode_commands(
    frame: Payload, /, *, max_commands: int, max_depth: int
) -> list[frames.Command]:
    """Return the commands of one frame, in order; none of them if one is wrong.

    An empty command is a ``Pong``, and so is any but ``send`` whose id is 0. As
    Protobuf has it: a field with an unknown number or of another wire type is passed
    over, so an unknown method is no method; numbers that are too large for their field
    lose their upper bits.

    Args:
        frame: bounded by the transport; the work is proportional to its size.
        max_commands: most commands (> 0).
        max_depth: most messages inside each other, the command's own two included
            (> 2). Google's library gives up at about 100 by itself.

    Raises:
        BadFrame: with one of the reasons "empty frame", "too many commands", "not
            Protobuf", "wrong field", "no method", "several methods", "nested too deep".
    """
    if isinstance(frame, str):
        raise BadFrame("not Protobuf", "a text frame")
    if not frame:
        raise BadFrame("empty frame")
    commands: list[frames.Command] = []
    at = 0
    while at < len(frame):
        if len(commands) == max_commands:
            raise BadFrame("too many commands", f"more than {max_commands}")
        start, at = _bounds(frame, at)
        commands.append(_command(frame[start:at], max_depth))
    return commands


def _bounds(frame: bytes, at: int) -> tuple[int, int]:
    """Return where the command that is announced at a place begins and ends."""
    size = 0
    for i, byte in enumerate(frame[at : at + _VARINT_BYTES]):
        size |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            start = at + i + 1
            if size > len(frame) - start:
                raise BadFrame("not Protobuf", "a command is longer than its frame")
            return start, start + size
    raise BadFrame("not Protobuf", "a length that does not end")


def _command(data: bytes, max_depth: int) -> frames.Command:
    try:
        read: Any = Command.FromString(data)
    except (DecodeError, UnicodeDecodeError) as error:  # the latter without its C part
        raise BadFrame("not Protobuf", str(error)) from error
    given = [
        _read(REQUESTS[field.name], message, max_depth - 1)
        for field, message in read.ListFields()
        if field.name in REQUESTS
    ]
    if len(given) > 1:
        raise BadFrame("several methods")
    if read.id == 0 and not (given and isinstance(given[0], frames.Send)):
        return _PONG
    if not given:
        raise BadFrame("no method")
    return frames.Command(read.id, given[0])


def _read(kind: type[KindT], message: Encoded, levels: int) -> KindT:
    """Return a message as a frame; it may be so many levels deep."""
    if levels < 1:
        raise BadFrame("nested too deep")
    readers, values = _READERS[kind], {}
    for field, value in message.ListFields():
        read = readers[field.name]
        values[field.name] = value if read is None else read(value, levels - 1)
    return kind(**values)


def _read_raw(value: bytes, _levels: int) -> Raw:
    return Raw(value)


def _read_offset(value: int, _levels: int) -> int:
    if value > _MAX_OFFSET:
        raise BadFrame("wrong field", "an offset is too large")
    return value


def _reader(field: Field) -> _Read | None:
    """Return what reads a field; None if its value is the frame's."""
    one: _Read | None = None
    if field.kind is not None:
        one = partial(_read, field.kind)
    elif field.type == FieldDescriptorProto.TYPE_BYTES:
        one = _read_raw
    elif field.type == FieldDescriptorProto.TYPE_UINT64:
        one = _read_offset
    if field.shape is Shape.ONE:
        return one
    is_list = field.shape is Shape.LIST
    if one is None:
        return lambda values, _: list(values) if is_list else dict(values)
    if is_list:
        return lambda values, levels: [one(value, levels) for value in values]
    return lambda values, levels: {k: one(v, levels) for k, v in values.items()}


_READERS = {
    kind: {field.name: _reader(field) for field in fields}
    for kind, fields in FIELDS.items()
}


# --- To clients ---


def encode_reply(reply: frames.Reply) -> bytes:
    """Return a reply behind its length.

    Raises:
        ValueError: lone surrogates in a text of the application's.
    """
    outcome = {name_of(type(reply.outcome)): _plain(reply.outcome)}
    return _delimited(Reply(id=reply.id, **outcome))


def encode_push(push: frames.Push) -> bytes:
    """Return a push behind its length.

    Raises:
        ValueError: lone surrogates in a text of the application's.
    """
    body = {"channel": push.channel, name_of(type(push.body)): _plain(push.body)}
    return _delimited(Reply(**{name_of(frames.Push): body}))


def _delimited(message: Encoded) -> bytes:
    data = message.SerializeToString()
    return _varint(len(data)) + data


def _varint(number: int) -> bytes:
    done = bytearray()
    while number > 0x7F:
        done.append(number & 0x7F | 0x80)
        number >>= 7
    done.append(number)
    return bytes(done)


def _plain(frame: frames.Frame) -> dict[str, Any]:
    """Return a frame as Google's library takes it."""
    values = {}
    for name, write in _WRITERS[type(frame)]:
        value = getattr(frame, name)
        if value:  # or it is left out on the wire anyway
            values[name] = value if write is None else write(value)
    return values


def _writer(field: Field) -> _Write | None:
    """Return what writes a field; None if its value can be taken as it is."""
    one: _Write | None = None
    if field.kind is not None:
        one = _plain
    elif field.type == FieldDescriptorProto.TYPE_BYTES:
        one = bytes
    if one is None or field.shape is Shape.ONE:
        return one
    if field.shape is Shape.LIST:
        return lambda values: [one(value) for value in values]
    return lambda values: {key: one(value) for key, value in values.items()}


_WRITERS = {
    kind: [(field.name, _writer(field)) for field in fields]
    for kind, fields in FIELDS.items()
}


def join(frames_: list[Payload]) -> bytes:
    """Return several replies and pushes as one frame, in order."""
    return b"".join(cast("list[bytes]", frames_))
