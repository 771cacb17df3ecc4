"""The form of the protocol for clients that only listen: one frame in, lines out."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from broker.protocol import frames
from broker.protocol.codec import BadFrame
from broker.protocol.codes import Disconnects, Errors, is_retried, is_terminal
from broker.protocol.one_way import (
    decode_connect,
    disconnect_for,
    encode_push,
    encode_reply,
)


def decoded(frame: str | bytes) -> frames.Command:
    commands = decode_connect(frame, max_commands=1, max_depth=10)
    assert len(commands) == 1
    return commands[0]


@pytest.mark.parametrize("frame", ["{}", b"{}", " {} \n", '{"unknown":[1]}'])
def test_an_empty_hello(frame: str | bytes) -> None:
    assert decoded(frame) == frames.Command(1, frames.Connect())


def test_a_hello() -> None:
    command = decoded(
        '{"token":"t","name":"n","data":{"a": 1},"subs":{"c":{"offset":3,"epoch":"e"}}}'
    )
    assert command.request == frames.Connect(
        token="t",
        name="n",
        data=Raw(b'{"a": 1}'),
        subs={"c": frames.Subscribe(offset=3, epoch="e")},
    )


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("", "empty frame"),
        (" \n", "empty frame"),
        (b"\xff", "not UTF-8"),
        ("\ud800", "not UTF-8"),
        ("nonsense", "not JSON"),
        ("{}\n{}", "not JSON"),
        ("null", "wrong field"),
        ("[]", "wrong field"),
        ('{"token":1}', "wrong field"),
        ('{"subs":{"c":{"offset":-1}}}', "wrong field"),
        ('{"data":' + "[" * 10 + "]" * 10 + "}", "nested too deep"),
        ('{"data":' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deep"),
        ('{"data":' + "9" * 5_000 + "}", "number too long"),
    ],
    ids=lambda frame: ascii(frame[:20]),
)
def test_frames_that_are_none(frame: str | bytes, reason: str) -> None:
    with pytest.raises(BadFrame) as caught:
        decoded(frame)
    assert caught.value.reason == reason


def test_depth_is_counted_to_the_last_level() -> None:
    decoded('{"data":' + "[" * 9 + "]" * 9 + "}")


def test_lines_have_no_envelope_and_no_breaks() -> None:
    publication = frames.Publication(data=Raw(b'{"a":\r\n1}'), offset=2)
    line = encode_push(frames.Push("c", publication))
    assert line == '{"channel":"c","pub":{"data":{"a":1},"offset":2}}'
    assert encode_push(frames.Push("", frames.RefreshPush())) == '{"refresh":{}}'


def test_the_reply_is_a_push_with_all_its_fields() -> None:
    result = frames.ConnectResult(
        client="id",
        version="v",
        expires=True,
        ttl=5,
        data=Raw(b"1"),
        subs={"c": frames.SubscribeResult(offset=3)},
        ping=25,
        session="s",
        node="n",
        time=7,
    )
    line = json.loads(encode_reply(frames.Reply(1, result)))
    assert line == {
        "connect": {
            "client": "id",
            "version": "v",
            "expires": True,
            "ttl": 5,
            "data": 1,
            "subs": {"c": {"offset": 3}},
            "ping": 25,
            "session": "s",
            "node": "n",
            "time": 7,
        }
    }


def test_errors_as_disconnects() -> None:
    for error in vars(Errors).values():
        if not isinstance(error, frames.Error):
            continue
        told = disconnect_for(error)
        # Who may try again comes back; who may not stays away.
        comes_back = is_retried(error) or error is Errors.EXPIRED
        assert is_terminal(told.code) is not comes_back, error
    assert disconnect_for(Errors.TOKEN_EXPIRED) is Disconnects.CONNECTION_EXPIRED
    assert disconnect_for(Errors.PERMISSION_DENIED) is Disconnects.PERMISSION_DENIED
    assert disconnect_for(frames.Error(1_000, "no")) is Disconnects.BAD_REQUEST
    later = frames.Error(1_000, "later", temporary=True)
    assert disconnect_for(later) is Disconnects.INTERNAL
