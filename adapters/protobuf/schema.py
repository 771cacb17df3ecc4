"""The Protobuf schema of the client protocol: its frames, and numbers for their fields.

The descriptors are made at import, of the numbers here and the types in ``frames``. So
there is no generated code, which only goes with some versions of protobuf, and no
second list of types that could differ from the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias, TypeVar

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MessageOptions,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from msgspec import inspect

from broker.protocol import frames

__all__ = ("FIELDS", "REQUESTS", "Command", "Field", "Reply", "Shape", "name_of")

Kind: TypeAlias = type[frames.Frame]
FrameKind = TypeVar("FrameKind", bound=Kind)

# {frame: what its fields are on the wire}
# Source: the protocol's client.proto. What it has besides belongs to experimental
# features, and is passed over as all unknown fields are.
_NUMBERS: Mapping[Kind, str] = {
    # Shared
    frames.ClientInfo: "user=1 client=2 conn_info=3 chan_info=4",
    frames.Publication: "data=4 info=5 offset=6 tags=7 delta=8 time=9 channel=10",
    frames.StreamPosition: "offset=1 epoch=2",
    frames.FilterNode: "op=1 key=2 cmp=3 val=4 vals=5 nodes=6",
    # Requests
    frames.Connect: "token=1 data=2 subs=3 name=4 version=5 headers=6 flag=7",
    frames.Subscribe: (
        "channel=1 token=2 recover=3 epoch=6 offset=7 data=8 positioned=9 "
        "recoverable=10 join_leave=11 delta=12 tf=13 flag=14"
    ),
    frames.Unsubscribe: "channel=1",
    frames.Publish: "channel=1 data=2",
    frames.Presence: "channel=1",
    frames.PresenceStats: "channel=1",
    frames.History: "channel=1 limit=7 since=8 reverse=9",
    frames.Send: "data=1",
    frames.Rpc: "data=1 method=2",
    frames.Refresh: "token=1",
    frames.SubRefresh: "channel=1 token=2",
    # Results
    frames.Error: "code=1 message=2 temporary=3",
    frames.ConnectResult: (
        "client=1 version=2 expires=3 ttl=4 data=5 subs=6 ping=7 pong=8 session=9 "
        "node=10 time=11"
    ),
    frames.SubscribeResult: (
        "expires=1 ttl=2 recoverable=3 epoch=6 publications=7 recovered=8 offset=9 "
        "positioned=10 data=11 was_recovering=12 delta=13"
    ),
    frames.UnsubscribeResult: "",
    frames.PublishResult: "",
    frames.PresenceResult: "presence=1",
    frames.PresenceStatsResult: "num_clients=1 num_users=2",
    frames.HistoryResult: "publications=1 epoch=2 offset=3",
    frames.RpcResult: "data=1",
    frames.RefreshResult: "client=1 version=2 expires=3 ttl=4",
    frames.SubRefreshResult: "expires=1 ttl=2",
    # Pushes
    frames.JoinPush: "info=1",
    frames.LeavePush: "info=1",
    frames.UnsubscribePush: "code=2 reason=3",
    frames.MessagePush: "data=1",
    frames.SubscribePush: "recoverable=1 epoch=4 offset=5 positioned=6 data=7",
    frames.ConnectPush: (
        "client=1 version=2 data=3 subs=4 expires=5 ttl=6 ping=7 pong=8 session=9 "
        "node=10 time=11"
    ),
    frames.DisconnectPush: "code=1 reason=2",
    frames.RefreshPush: "expires=1 ttl=2",
}
# What the envelopes hold, of which each holds one: {frame: its number in there}
_REQUESTS: Mapping[type[frames.Request], int] = {
    frames.Connect: 4,
    frames.Subscribe: 5,
    frames.Unsubscribe: 6,
    frames.Publish: 7,
    frames.Presence: 8,
    frames.PresenceStats: 9,
    frames.History: 10,
    frames.Send: 12,
    frames.Rpc: 13,
    frames.Refresh: 14,
    frames.SubRefresh: 15,
}
_OUTCOMES: Mapping[Kind, int] = {
    frames.Error: 2,
    frames.Push: 4,
    frames.ConnectResult: 5,
    frames.SubscribeResult: 6,
    frames.UnsubscribeResult: 7,
    frames.PublishResult: 8,
    frames.PresenceResult: 9,
    frames.PresenceStatsResult: 10,
    frames.HistoryResult: 11,
    frames.RpcResult: 13,
    frames.RefreshResult: 14,
    frames.SubRefreshResult: 15,
}
_BODIES: Mapping[Kind, int] = {
    frames.Publication: 4,
    frames.JoinPush: 5,
    frames.LeavePush: 6,
    frames.UnsubscribePush: 7,
    frames.MessagePush: 8,
    frames.SubscribePush: 9,
    frames.ConnectPush: 10,
    frames.DisconnectPush: 11,
    frames.RefreshPush: 12,
}

_PACKAGE = "asgi_broker"
# {least and greatest value: what the schema has such a number as}
_INTEGERS: Mapping[tuple[int | None, ...], FieldDescriptorProto.Type.ValueType] = {
    (0, 2**63 - 1): FieldDescriptorProto.TYPE_UINT64,  # of which half: see ``Offset``
    (0, 2**32 - 1): FieldDescriptorProto.TYPE_UINT32,
    (-(2**31), 2**31 - 1): FieldDescriptorProto.TYPE_INT32,
    (-(2**63), 2**63 - 1): FieldDescriptorProto.TYPE_INT64,
}


class Shape(Enum):
    """How many values a field has."""

    ONE = "one"
    LIST = "list"
    MAP = "map"  # by text


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a frame.

    Attributes:
        type: of its values, as ``FieldDescriptorProto`` counts types.
        kind: of its values, where they are frames.
    """

    name: str
    number: int
    type: FieldDescriptorProto.Type.ValueType
    kind: Kind | None = None
    shape: Shape = Shape.ONE


def name_of(kind: Kind) -> str:
    """Return what such a frame is called, as a message and as a field of its envelope.

    Names are ours to choose: none are on the wire.
    """
    return kind.__name__


def _field(name: str, number: int, type_: inspect.Type) -> Field:
    if isinstance(type_, inspect.UnionType):  # with None, for "not there"
        (type_,) = (t for t in type_.types if not isinstance(t, inspect.NoneType))
    match type_:
        case inspect.ListType(item_type=inner):
            return _with_shape(_field(name, number, inner), Shape.LIST)
        case inspect.DictType(value_type=inner):
            return _with_shape(_field(name, number, inner), Shape.MAP)
        case inspect.StructType(cls=kind):
            assert issubclass(kind, frames.Frame)
            return Field(name, number, FieldDescriptorProto.TYPE_MESSAGE, kind)
        case inspect.StrType():
            return Field(name, number, FieldDescriptorProto.TYPE_STRING)
        case inspect.BoolType():
            return Field(name, number, FieldDescriptorProto.TYPE_BOOL)
        case inspect.RawType():
            return Field(name, number, FieldDescriptorProto.TYPE_BYTES)
        case inspect.IntType(ge=least, le=most):
            return Field(name, number, _INTEGERS[least, most])
        case _:  # pragma: no cover - a type that no frame has yet
            raise AssertionError(f"{name}: {type_} has no form in Protobuf")


def _with_shape(field: Field, shape: Shape) -> Field:
    return Field(field.name, field.number, field.type, field.kind, shape)


def _fields_of(kind: Kind, numbers: str) -> tuple[Field, ...]:
    given = dict(pair.split("=") for pair in numbers.split())
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    assert given.keys() == {field.name for field in info.fields}, kind
    return tuple(_field(f.name, int(given[f.name]), f.type) for f in info.fields)


def _held(numbers: Mapping[FrameKind, int]) -> list[Field]:
    message = FieldDescriptorProto.TYPE_MESSAGE
    return [Field(name_of(kind), n, message, kind) for kind, n in numbers.items()]


# {frame: its fields}, without the envelopes
FIELDS: Final[Mapping[Kind, tuple[Field, ...]]] = {
    kind: _fields_of(kind, numbers) for kind, numbers in _NUMBERS.items()
}
# {name in a command: what it asks}
REQUESTS: Final[Mapping[str, type[frames.Request]]] = {
    name_of(kind): kind for kind in _REQUESTS
}
_ID = Field("id", 1, FieldDescriptorProto.TYPE_UINT32)
_CHANNEL = Field("channel", 2, FieldDescriptorProto.TYPE_STRING)
_ENVELOPES: Mapping[Kind, tuple[Field, ...]] = {
    frames.Command: (_ID, *_held(_REQUESTS)),
    frames.Reply: (_ID, *_held(_OUTCOMES)),
    frames.Push: (_CHANNEL, *_held(_BODIES)),
}


def _declare(message: DescriptorProto, field: Field) -> None:
    declared = FieldDescriptorProto(
        name=field.name,
        number=field.number,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
        type=field.type,
    )
    if field.kind is not None:
        declared.type_name = f".{_PACKAGE}.{name_of(field.kind)}"
    if field.shape is not Shape.ONE:
        declared.label = FieldDescriptorProto.LABEL_REPEATED
    if field.shape is Shape.MAP:
        # Source: descriptor.proto: a map is a list of entries, which are so named.
        entry = message.nested_type.add(
            name=f"{field.name.title().replace('_', '')}Entry",
            options=MessageOptions(map_entry=True),
        )
        _declare(entry, Field("key", 1, FieldDescriptorProto.TYPE_STRING))
        _declare(entry, Field("value", 2, field.type, field.kind))
        declared.type = FieldDescriptorProto.TYPE_MESSAGE
        declared.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"
    message.field.append(declared)


def _messages() -> DescriptorPool:
    file = FileDescriptorProto(name="client", package=_PACKAGE, syntax="proto3")
    for kind, fields in {**FIELDS, **_ENVELOPES}.items():
        message = file.message_type.add(name=name_of(kind))
        for field in fields:
            _declare(message, field)
    pool = DescriptorPool()  # not the default one, which is everybody's
    pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _messages()


def _message(kind: Kind) -> type[Message]:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name_of(kind)}"))


Command: Final = _message(frames.Command)
Reply: Final = _message(frames.Reply)
