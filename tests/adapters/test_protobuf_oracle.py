"""Our Protobuf against the classes and the codec that centrifuge-python ships."""

from __future__ import annotations

from base64 import b64encode
from importlib import import_module
from typing import Any

import centrifuge  # type: ignore[import-untyped] # has none
import msgspec
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from adapters.protobuf import PROTOBUF, schema
from adapters.protobuf.schema import FIELDS, Field, Shape
from broker.message import Message
from broker.protocol import frames

# Neither has types; the classes are made at import.
theirs: Any = import_module("centrifuge.protocol.client_pb2")
sdk: Any = import_module("centrifuge.codecs")

# {frame: (what they call it, its key in the envelope)}
REQUESTS: dict[type[frames.Frame], tuple[str, str]] = {
    frames.Connect: ("ConnectRequest", "connect"),
    frames.Subscribe: ("SubscribeRequest", "subscribe"),
    frames.Unsubscribe: ("UnsubscribeRequest", "unsubscribe"),
    frames.Publish: ("PublishRequest", "publish"),
    frames.Presence: ("PresenceRequest", "presence"),
    frames.PresenceStats: ("PresenceStatsRequest", "presence_stats"),
    frames.History: ("HistoryRequest", "history"),
    frames.Send: ("SendRequest", "send"),
    frames.Rpc: ("RPCRequest", "rpc"),
    frames.Refresh: ("RefreshRequest", "refresh"),
    frames.SubRefresh: ("SubRefreshRequest", "sub_refresh"),
}
OUTCOMES: dict[type[frames.Frame], tuple[str, str]] = {
    frames.Error: ("Error", "error"),
    frames.ConnectResult: ("ConnectResult", "connect"),
    frames.SubscribeResult: ("SubscribeResult", "subscribe"),
    frames.UnsubscribeResult: ("UnsubscribeResult", "unsubscribe"),
    frames.PublishResult: ("PublishResult", "publish"),
    frames.PresenceResult: ("PresenceResult", "presence"),
    frames.PresenceStatsResult: ("PresenceStatsResult", "presence_stats"),
    frames.HistoryResult: ("HistoryResult", "history"),
    frames.RpcResult: ("RPCResult", "rpc"),
    frames.RefreshResult: ("RefreshResult", "refresh"),
    frames.SubRefreshResult: ("SubRefreshResult", "sub_refresh"),
}
BODIES: dict[type[frames.Frame], tuple[str, str]] = {
    frames.Publication: ("Publication", "pub"),
    frames.JoinPush: ("Join", "join"),
    frames.LeavePush: ("Leave", "leave"),
    frames.UnsubscribePush: ("Unsubscribe", "unsubscribe"),
    frames.MessagePush: ("Message", "message"),
    frames.SubscribePush: ("Subscribe", "subscribe"),
    frames.ConnectPush: ("Connect", "connect"),
    frames.DisconnectPush: ("Disconnect", "disconnect"),
    frames.RefreshPush: ("Refresh", "refresh"),
}
SHARED = ("ClientInfo", "Publication", "StreamPosition", "FilterNode")
NAMES = {frame: name for frame, (name, _) in (REQUESTS | OUTCOMES | BODIES).items()}
NAMES |= {getattr(frames, name): name for name in SHARED}

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
integers = {
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**63 - 1),
}


def values(field: Field) -> st.SearchStrategy[Any]:
    """Return values for a field, as the frame has them."""
    one: st.SearchStrategy[Any]
    if field.kind is not None:
        one = st.deferred(lambda: made(field.kind))
    elif field.type == FieldDescriptor.TYPE_STRING:
        one = text
    elif field.type == FieldDescriptor.TYPE_BYTES:
        one = st.binary(max_size=8).map(Raw)
    elif field.type == FieldDescriptor.TYPE_BOOL:
        one = st.booleans()
    else:
        one = integers[field.type]
    if field.shape is Shape.LIST:
        return st.lists(one, max_size=2)
    if field.shape is Shape.MAP:
        return st.dictionaries(text, one, max_size=2)
    return one


def made(kind: Any) -> st.SearchStrategy[Any]:
    """Return frames of a kind, some of whose fields are left out."""
    needed = {f.name for f in msgspec.structs.fields(kind) if f.required}
    given = {field.name: values(field) for field in FIELDS[kind]}
    return st.fixed_dictionaries(
        {name: each for name, each in given.items() if name in needed},
        optional={name: each for name, each in given.items() if name not in needed},
    ).map(lambda fields: kind(**fields))


def plain(value: Any) -> Any:
    """Return what their classes take for a value of ours."""
    match value:
        case frames.Frame():
            fields = msgspec.structs.asdict(value)
            return {name: plain(v) for name, v in fields.items() if v is not None}
        case Raw():
            return bytes(value)
        case list():
            return [plain(each) for each in value]
        case dict():
            return {key: plain(each) for key, each in value.items()}
    return value


def one_of(kinds: dict[type[frames.Frame], tuple[str, str]]) -> st.SearchStrategy[Any]:
    return st.sampled_from(sorted(kinds, key=schema.name_of)).flatmap(made)


@pytest.mark.parametrize("kind", FIELDS, ids=schema.name_of)
def test_every_field_is_theirs(kind: type[frames.Frame]) -> None:
    message = getattr(theirs, NAMES[kind]).DESCRIPTOR
    for field in FIELDS[kind]:
        known = message.fields_by_name[field.name]
        assert (field.number, field.shape is not Shape.ONE) == (
            known.number,
            known.is_repeated,
        )
        if field.shape is Shape.MAP:
            known = known.message_type.fields_by_name["value"]
        assert field.type == known.type
        if field.kind is not None:
            assert NAMES[field.kind] == known.message_type.name


def test_every_envelope_is_theirs() -> None:
    command: Any = schema.Command.DESCRIPTOR
    reply: Any = schema.Reply.DESCRIPTOR
    push = reply.fields_by_name["Push"].message_type
    for ours, their, kinds in (
        (command, theirs.Command, REQUESTS),
        (reply, theirs.Reply, OUTCOMES),
        (push, theirs.Push, BODIES),
    ):
        fields = their.DESCRIPTOR.fields_by_name
        assert {field.name: field.number for field in ours.fields} == {
            **{
                schema.name_of(kind): fields[key].number
                for kind, (_, key) in kinds.items()
            },
            **{
                name: fields[name.lower()].number
                for name in ("id", "channel", "Push")
                if name in ours.fields_by_name
            },
        }


@given(st.lists(st.tuples(st.integers(1, 2**32 - 1), one_of(REQUESTS)), min_size=1))
def test_what_they_write_is_read(asked: list[tuple[int, Any]]) -> None:
    frame = b""
    for number, request in asked:
        key = REQUESTS[type(request)][1]
        written = theirs.Command(id=number, **{key: plain(request)}).SerializeToString()
        frame += sdk._varint_encode(len(written)) + written
    assert PROTOBUF.decode(frame, max_commands=len(asked), max_depth=128) == [
        frames.Command(number, request) for number, request in asked
    ]


@given(st.integers(1, 2**32 - 1), one_of(OUTCOMES))
def test_they_read_replies(number: int, outcome: Any) -> None:
    key = OUTCOMES[type(outcome)][1]
    expected = theirs.Reply(id=number, **{key: plain(outcome)})
    frame = PROTOBUF.reply(frames.Reply(number, outcome))
    assert theirs.Reply.FromString(whole(frame)) == expected


@given(text, one_of(BODIES))
def test_they_read_pushes(channel: str, body: Any) -> None:
    key = BODIES[type(body)][1]
    expected = theirs.Reply(push={"channel": channel, key: plain(body)})
    frame = PROTOBUF.push(frames.Push(channel, body))
    assert theirs.Reply.FromString(whole(frame)) == expected


def whole(frame: Any) -> bytes:
    """Return what is behind a length; there is nothing else behind it."""
    size, start = sdk._varint_decode(frame, 0)
    assert len(frame) == start + size
    data: bytes = frame[start:]
    return data


@given(st.binary(max_size=20), st.binary(min_size=30, max_size=60))
def test_they_apply_changes(before: bytes, kept: bytes) -> None:
    base, message = Message("c", before + kept), Message("c", kept * 2)
    pubs = []
    for frame in (PROTOBUF.encode_whole(base), PROTOBUF.encode_change(base, message)):
        push = theirs.Reply.FromString(whole(frame)).push
        pubs.append(
            centrifuge.Publication(0, push.pub.data, None, {}, delta=push.pub.delta)
        )
    assert [pub.delta for pub in pubs] == [False, True]
    apply = sdk._ProtobufCodec.apply_delta_if_needed
    _, first = apply(b"", pubs[0])
    assert first == base.payload
    assert apply(first, pubs[1])[0] == message.payload


def test_a_session_of_the_sdks_codec() -> None:
    frame = sdk._ProtobufCodec.encode_commands(
        [
            {"id": 1, "connect": {"token": "t", "name": "python"}},
            {"id": 2, "subscribe": {"channel": "c", "flag": 1}},
            {},
            {"id": 3, "publish": {"channel": "c", "data": b64encode(b"\xff")}},
        ]
    )
    assert PROTOBUF.decode(frame, max_commands=4, max_depth=128) == [
        frames.Command(1, frames.Connect(token="t", name="python")),
        frames.Command(2, frames.Subscribe(channel="c", flag=1)),
        frames.Command(0, frames.Pong()),
        frames.Command(3, frames.Publish("c", Raw(b"\xff"))),
    ]
    done = [
        PROTOBUF.reply(frames.Reply(1, frames.ConnectResult(client="x", ping=25))),
        PROTOBUF.ping,
        PROTOBUF.push(frames.Push("c", frames.Publication(Raw(b"\xff"), offset=1))),
        PROTOBUF.reply(frames.Reply(3, frames.Error(103, "permission denied"))),
    ]
    assert sdk._ProtobufCodec.decode_replies(PROTOBUF.join(done)) == [
        {"id": 1, "connect": {"client": "x", "ping": 25}},
        {},
        {"push": {"channel": "c", "pub": {"data": "/w==", "offset": "1"}}},
        {"id": 3, "error": {"code": 103, "message": "permission denied"}},
    ]
