"""Frames for clients that speak no protocol of ours."""

from __future__ import annotations

import json

import pytest

from broker.message import Gap, Message, Payload, Position
from broker.wire import plain_frame


@pytest.mark.parametrize("payload", ["", "hé", b"", b"\x00\xff"])
def test_a_payload_goes_out_as_it_is(payload: Payload) -> None:
    frame = plain_frame(Message("t", payload, Position("e", 1), {"k": "v"}))
    assert frame == payload
    assert type(frame) is type(payload)


def test_a_gap_is_a_json_text() -> None:
    frame = plain_frame(Gap('t"é', "e-1", 3, 5, 2))
    assert isinstance(frame, str)
    assert json.loads(frame) == {
        "type": "gap",
        "topic": 't"é',
        "epoch": "e-1",
        "first": 3,
        "last": 5,
        "missed": 2,
    }
