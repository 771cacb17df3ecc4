"""Frames of the JSON form: what is read, what is refused, what is written."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from broker.client_format import JSON
from broker.message import Gap, Message, Position
from broker.protocol import frames
from broker.protocol.codec import (
    INFO_HEADER,
    MAX_DIGITS,
    BadFrame,
    compact,
    decode_commands,
    encode_push,
    encode_reply,
    info_header,
    raw_json,
)
from broker.protocol.codes import ERRORS

# Text that UTF-8 can carry, and numbers that every parser reads alike.
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner),
    max_leaves=12,
)


def read(frame: str | bytes, max_commands: int = 16) -> list[frames.Command]:
    return decode_commands(frame, max_commands=max_commands, max_depth=128)


def pushed(message: Message | Gap) -> Any:
    line = JSON.encode(message)
    assert isinstance(line, str)
    assert not set("\r\n") & set(line)
    return json.loads(line)["push"]


# --- What is read ---


def test_a_session_of_centrifuge_js() -> None:
    """Connect and an optimistic subscribe in one frame, then a pong."""
    frame = (
        '{"connect":{"token":"t","name":"js"},"id":1}\n'
        '{"subscribe":{"channel":"chat:1","flag":1},"id":2}\n'
    )
    assert read(frame) == [
        frames.Command(1, frames.Connect(token="t", name="js")),
        frames.Command(2, frames.Subscribe(channel="chat:1", flag=1)),
    ]
    assert read("{}") == [frames.Command(0, frames.Pong())]


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ('{"id":1,"connect":{}}', frames.Connect()),
        ('{"id":1,"subscribe":{}}', frames.Subscribe()),
        ('{"id":1,"unsubscribe":{"channel":"c"}}', frames.Unsubscribe("c")),
        ('{"id":1,"publish":{"data":[1]}}', frames.Publish("", Raw(b"[1]"))),
        ('{"id":1,"presence":{"channel":"c"}}', frames.Presence("c")),
        ('{"id":1,"presence_stats":{"channel":"c"}}', frames.PresenceStats("c")),
        (
            '{"id":1,"history":{"channel":"c","limit":-1,"since":{"offset":3}}}',
            frames.History("c", -1, frames.StreamPosition(3)),
        ),
        ('{"id":1,"rpc":{"method":"m","data":1}}', frames.Rpc("m", Raw(b"1"))),
        ('{"id":1,"refresh":{"token":"t"}}', frames.Refresh("t")),
        ('{"id":1,"sub_refresh":{"token":"t"}}', frames.SubRefresh("", "t")),
        ('{"id":1,"send":{"data":{}}}', frames.Send(Raw(b"{}"))),
    ],
)
def test_every_method(line: str, request_: frames.Request) -> None:
    assert read(line) == [frames.Command(1, request_)]
    assert read(line.encode()) == read(line)


def test_a_send_has_no_id() -> None:
    assert read('{"send":{"data":1}}') == [frames.Command(0, frames.Send(Raw(b"1")))]


@pytest.mark.parametrize(
    "line",
    ["{}", ' {"id":0} ', '{"connect":{}}', '{"id":0,"rpc":{}}', '{"x":1}', "{}\r\n"],
)
def test_what_has_no_id_is_a_pong(line: str) -> None:
    assert read(line) == [frames.Command(0, frames.Pong())]


def test_the_last_of_equal_keys_counts() -> None:
    line = '{"id":1,"id":2,"publish":{"channel":"a"},"publish":{"channel":"b"}}'
    assert read(line) == [frames.Command(2, frames.Publish("b"))]


def test_null_is_absent_where_an_object_is_meant() -> None:
    line = '{"id":1,"connect":null,"history":{"since":null}}'
    assert read(line) == [frames.Command(1, frames.History())]


def test_payloads_stay_as_they_came() -> None:
    data = '{"a" : [1.50, 1e999, "\\u0041\\ud83d\\ude00é"]}'
    (command,) = read(f'{{"id":1,"publish":{{"data":{data}}}}}')
    assert command.request == frames.Publish(data=Raw(data.encode()))


@given(st.integers(1, 2**32 - 1), text, values, st.booleans())
def test_what_json_writes_is_read(
    number: int, channel: str, data: object, ascii_only: bool
) -> None:
    line = json.dumps(
        {"id": number, "publish": {"channel": channel, "data": data}},
        ensure_ascii=ascii_only,
    )
    (command,) = read(line)
    assert isinstance(command.request, frames.Publish)
    assert (command.id, command.request.channel) == (number, channel)
    assert json.loads(bytes(command.request.data)) == data


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20), st.integers(1, 20))
def test_a_frame_is_read_as_a_whole_and_in_order(ids: list[int], most: int) -> None:
    frame = "\n".join(f'{{"id":{number},"rpc":{{}}}}' for number in ids)
    if len(ids) > most:
        with pytest.raises(BadFrame, match="too many commands"):
            read(frame, most)
    else:
        assert [command.id for command in read(frame, most)] == ids


# --- What is refused ---


def nested(levels: int, opening: str = "[", closing: str = "]") -> str:
    inside = opening * levels + "1" + closing * levels
    return f'{{"id":1,"rpc":{{"data":{inside}}}}}'


HOSTILE: list[tuple[str | bytes, str]] = [
    ("", "empty frame"),
    (b"", "empty frame"),
    (" \r\n\t", "empty frame"),
    ('{"id":1,"rpc":{"data":"\ud800"}}', "not UTF-8"),
    (b'{"id":1,"rpc":{"data":"\xed\xa0\x80"}}', "not UTF-8"),
    (b'{"id":1,"rpc":{"data":"\xff"}}', "not UTF-8"),
    (b'{"unknown":"\xff"}', "not UTF-8"),
    (b"\xff", "not UTF-8"),
    ('{"id":1,"rpc":{"data":"\\ud800"}}', "not JSON"),
    ('{"id":1,"rpc":{"data":"\\udc00"}}', "not JSON"),
    ('{"id":1,"rpc":{"data":"\\ud83dx"}}', "not JSON"),
    ('{"id":1,"rpc":{"data":"\\x41"}}', "not JSON"),
    ("\ufeff{}", "not JSON"),
    ("{}{}", "not JSON"),
    ("{}\n\n{}", "not JSON"),
    ("{},{}", "not JSON"),
    ("{", "not JSON"),
    ("ping", "not JSON"),
    ("\x00", "not JSON"),
    ('{"id":1,"rpc":{"data":NaN}}', "not JSON"),
    ('{"id":1,"rpc":{"data":01}}', "not JSON"),
    ('{"id":1,"rpc":{"data":[1,]}}', "not JSON"),
    ('{"id":1,"rpc":{"data":"\t"}}', "not JSON"),
    ('{"id":1,"rpc":{"data":}}', "not JSON"),
    ('{"id":1,"rpc":{"data":"a\nb"}}', "not JSON"),
    ("[]", "wrong field"),
    ("null", "wrong field"),
    ("1", "wrong field"),
    ('[{"id":1,"rpc":{}}]', "wrong field"),
    ('{"id":"1","rpc":{}}', "wrong field"),
    ('{"id":1.5,"rpc":{}}', "wrong field"),
    ('{"id":true,"rpc":{}}', "wrong field"),
    ('{"id":null,"rpc":{}}', "wrong field"),
    ('{"id":1e400,"rpc":{}}', "wrong field"),
    (f'{{"id":{"9" * 5000},"rpc":{{}}}}', "wrong field"),
    ('{"id":1,"rpc":[]}', "wrong field"),
    ('{"id":1,"rpc":{"method":null}}', "wrong field"),
    ('{"id":1,"subscribe":{"channel":["a"]}}', "wrong field"),
    ('{"id":1,"subscribe":{"offset":-1}}', "wrong field"),
    ('{"id":1,"subscribe":{"offset":9223372036854775808}}', "wrong field"),
    ('{"id":1,"history":{"limit":2147483648}}', "wrong field"),
    ('{"id":4294967296,"rpc":{}}', "id out of range"),
    ('{"id":-1,"rpc":{}}', "id out of range"),
    ('{"id":18446744073709551617,"rpc":{}}', "id out of range"),
    ('{"id":1}', "no method"),
    ('{"id":1,"teleport":{}}', "no method"),
    ('{"id":1,"ping":{}}', "no method"),
    ('{"id":1,"rpc":null}', "no method"),
    ('{"id":1,"rpc":{},"publish":{}}', "several methods"),
    ('{"id":0,"rpc":{},"publish":{}}', "several methods"),
    ('{"rpc":{},"send":{}}', "several methods"),
    ("{}\n" * 17, "too many commands"),
    ("\n".join("x" * 17), "too many commands"),
    (nested(127), "nested too deep"),
    (nested(127, '{"a":', "}"), "nested too deep"),
    (nested(20_000), "nested too deep"),
    (nested(20_000, '{"a":', "}"), "nested too deep"),
    ("[" * 65_536, "wrong field"),
    ('{"x":' + "[" * 65_000, "nested too deep"),
    ('{"x":' * 13_000, "nested too deep"),
    (f'{{"id":1,"rpc":{{"data":{"9" * (MAX_DIGITS + 1)}}}}}', "number too long"),
    (f'{{"id":1,"rpc":{{"data":-0.{"1" * (MAX_DIGITS + 1)}}}}}', "number too long"),
]


@pytest.mark.parametrize(("frame", "reason"), HOSTILE)
def test_hostile_frames(frame: str | bytes, reason: str) -> None:
    with pytest.raises(BadFrame) as caught:
        read(frame)
    assert caught.value.reason == reason
    assert str(caught.value).startswith(reason)
    assert len(str(caught.value)) < 200


def test_one_bad_line_spoils_the_frame() -> None:
    with pytest.raises(BadFrame, match="no method"):
        read('{"id":1,"rpc":{}}\n{"id":2}')


@pytest.mark.parametrize(
    "data",
    [
        "[" * 126 + "]" * 126,
        "[[]," + "[" * 125 + "]" * 125 + ",[]]",
        "[" + "[]," * 5000 + "[]]",
        '"' + "[" * 5000 + '"',
        '"\\"' + "[{" * 5000 + '\\\\"',
        '"' + "9" * 5000 + '"',
        "9" * MAX_DIGITS,
        '{"' + "[" * 500 + '":"' + "{" * 500 + '"}',
    ],
    ids=[
        "just deep",
        "deep and wide",
        "wide",
        "text",
        "quotes",
        "digits in text",
        "long",
        "keys",
    ],
)
def test_what_only_looks_deep_or_long_is_read(data: str) -> None:
    (command,) = read(f'{{"id":1,"rpc":{{"data":{data}}}}}')
    assert command.request == frames.Rpc("", Raw(data.encode()))


@given(st.text(max_size=60) | st.binary(max_size=60))
@example('{"id":1,"rpc":{"data":\r1}}')
def test_anything_is_read_or_refused(frame: str | bytes) -> None:
    try:
        commands = read(frame)
    except BadFrame:
        return
    assert commands


@given(values, st.integers(3, 12))
def test_depth_is_counted_as_it_is(data: object, most: int) -> None:
    def depth(value: object) -> int:
        if isinstance(value, dict):
            return 1 + max(map(depth, value.values()), default=0)
        if isinstance(value, list):
            return 1 + max(map(depth, value), default=0)
        return 0

    line = json.dumps({"id": 1, "rpc": {"data": data}})
    if 2 + depth(data) > most:
        with pytest.raises(BadFrame, match="nested too deep"):
            decode_commands(line, max_commands=1, max_depth=most)
    else:
        assert decode_commands(line, max_commands=1, max_depth=most)


# --- What is written ---


RESULTS: list[tuple[frames.Result, str]] = [
    (frames.ConnectResult(client="c", ping=25, pong=True), "connect"),
    (frames.SubscribeResult(recoverable=True, epoch="e"), "subscribe"),
    (frames.UnsubscribeResult(), "unsubscribe"),
    (frames.PublishResult(), "publish"),
    (frames.PresenceResult({}), "presence"),
    (frames.PresenceStatsResult(0, 0), "presence_stats"),
    (frames.HistoryResult([], "", 0), "history"),
    (frames.RpcResult(Raw(b"null")), "rpc"),
    (frames.RefreshResult(), "refresh"),
    (frames.SubRefreshResult(expires=True, ttl=5), "sub_refresh"),
]


@pytest.mark.parametrize(("result", "key"), RESULTS, ids=[key for _, key in RESULTS])
def test_every_result_has_its_commands_key(result: frames.Result, key: str) -> None:
    written = json.loads(encode_reply(frames.Reply(7, result)))
    assert list(written) == ["id", key]
    assert written["id"] == 7
    assert isinstance(written[key], dict)


def test_replies_of_the_protocols_example() -> None:
    connected = frames.ConnectResult(client="9ac9", version="1", ping=25, pong=True)
    assert encode_reply(frames.Reply(1, connected)) == (
        '{"id":1,"connect":{"client":"9ac9","version":"1","ping":25,"pong":true}}'
    )
    assert encode_reply(frames.Reply(3, frames.PublishResult())) == (
        '{"id":3,"publish":{}}'
    )
    assert encode_reply(frames.Reply(4, ERRORS[100])) == (
        '{"id":4,"error":{"code":100,"message":"internal server error",'
        '"temporary":true}}'
    )


INFO = frames.ClientInfo("42", "9ac9")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (frames.Publication(Raw(b"1"), offset=2), {"pub": {"data": 1, "offset": 2}}),
        (
            frames.JoinPush(INFO),
            {"join": {"info": {"user": "42", "client": "9ac9"}}},
        ),
        (
            frames.LeavePush(INFO),
            {"leave": {"info": {"user": "42", "client": "9ac9"}}},
        ),
        (frames.UnsubscribePush(0, ""), {"unsubscribe": {"code": 0, "reason": ""}}),
        (frames.SubscribePush(epoch="e"), {"subscribe": {"epoch": "e"}}),
        (frames.MessagePush(Raw(b"[]")), {"message": {"data": []}}),
        (frames.ConnectPush(client="c"), {"connect": {"client": "c"}}),
        (
            frames.DisconnectPush(3001, "shutdown"),
            {"disconnect": {"code": 3001, "reason": "shutdown"}},
        ),
        (frames.RefreshPush(expires=True), {"refresh": {"expires": True}}),
    ],
)
def test_every_push_has_its_key(body: frames.PushBody, expected: object) -> None:
    assert isinstance(expected, dict)
    of_channel = json.loads(encode_push(frames.Push("c", body)))
    assert of_channel == {"push": {"channel": "c", **expected}}
    assert json.loads(encode_push(frames.Push("", body))) == {"push": expected}


def test_line_breaks_in_the_applications_json_break_no_line() -> None:
    pretty = Raw(b'{\r\n  "a": "x\\ny"\n}')
    line = encode_reply(frames.Reply(1, frames.RpcResult(pretty)))
    assert line == '{"id":1,"rpc":{"data":{  "a": "x\\ny"}}}'


@given(values, st.sampled_from([None, 0, 1, "\n", "\r", "\r\n\t"]))
def test_compacting_changes_no_value(data: object, indent: int | str | None) -> None:
    written = json.dumps(data, indent=indent)
    small = compact(written.encode())
    assert json.loads(small) == data
    assert not {10, 13} & set(small)


# --- Publications ---


def test_a_message_is_a_publication() -> None:
    message = Message("chat:1", '{"text":"hi"}', Position("e", 1))
    assert JSON.encode(message) == (
        '{"push":{"channel":"chat:1","pub":{"data":{"text":"hi"},"offset":1}}}'
    )


def test_it_is_made_once() -> None:
    message = Message("t", "1")
    assert message.encoded(JSON.wire.encode) is message.encoded(JSON.wire.encode)


def test_who_published_and_tags_go_along_and_other_headers_do_not() -> None:
    headers = {
        INFO_HEADER: info_header(frames.ClientInfo("u", "c", Raw(b'{"n":1}'))),
        "tag.lang": "fr",
        "traceparent": "00-secret",
    }
    assert pushed(Message("t", "1", None, headers)) == {
        "channel": "t",
        "pub": {
            "data": 1,
            "info": {"user": "u", "client": "c", "conn_info": {"n": 1}},
            "tags": {"lang": "fr"},
        },
    }


@pytest.mark.parametrize("header", ["", "x", "{}", "[]", '{"user":1,"client":""}'])
def test_an_unreadable_publisher_is_left_out(header: str) -> None:
    push = pushed(Message("t", "1", None, {INFO_HEADER: header}))
    assert push == {"channel": "t", "pub": {"data": 1}}


def test_a_message_of_no_topic_is_for_this_client() -> None:
    assert JSON.wrap('{"a":1}') == '{"push":{"message":{"data":{"a":1}}}}'


def test_a_gap_ends_the_subscription_for_another_to_begin() -> None:
    assert pushed(Gap("t", "e", 3, 5, 3)) == {
        "channel": "t",
        "unsubscribe": {"code": 2500, "reason": "insufficient state"},
    }


@pytest.mark.parametrize(
    ("payload", "data"),
    [
        ('{"a": 1}', {"a": 1}),
        ("12", 12),
        ("null", None),
        ("", ""),
        ("hello", "hello"),
        ("{broken", "{broken"),
        ("NaN", "NaN"),
        ("\ufeff{}", "\ufeff{}"),
        ('"\\ud800"', '"\\ud800"'),
        ("[" * 5000 + "]" * 5000, "[" * 5000 + "]" * 5000),
        ("[" * 129 + "]" * 129, "[" * 129 + "]" * 129),
        ("9" * 4301, "9" * 4301),
        ("9" * 4300, int("9" * 4300)),
        ("a\nb", "a\nb"),
        ('{\n"a":1\r\n}', {"a": 1}),
        (b'{"a":\n1}', {"a": 1}),
        (b"", ""),
        (b"hello", b64encode(b"hello").decode()),
        (b'"\xff"', b64encode(b'"\xff"').decode()),
        (b"\x00\xff\n", b64encode(b"\x00\xff\n").decode()),
    ],
)
def test_every_payload_reaches_a_json_client(
    payload: str | bytes, data: object
) -> None:
    assert pushed(Message("t", payload))["pub"]["data"] == data


@given(values)
def test_json_stays_json(data: object) -> None:
    written = json.dumps(data, indent=1)
    assert json.loads(bytes(raw_json(written))) == data
    assert raw_json(written) == raw_json(written.encode())


@given(text | st.binary(max_size=40))
def test_any_payload_is_one_line_of_json(payload: str | bytes) -> None:
    raw = bytes(raw_json(payload))
    json.loads(raw)
    assert not {10, 13} & set(raw)
