"""What clients say and understand, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.loadtest.plan import Plan, Scenario, Wire
from adapters.loadtest.stamp import Stamp, find_stamps, stamped
from adapters.loadtest.wires import Said, Speaker, address, speaker

TEXT = stamped(Stamp(1, 2, 3), 64)
QUIET = Said()


def plan(wire: Wire, **changes: Any) -> Plan:
    return Plan(**{"url": "ws://host:1", "wire": wire, **changes})


def centrifuge(*, listens: bool = True, **changes: Any) -> Speaker:
    changed = plan(Wire.CENTRIFUGE, topic="t{room}", **changes)
    return speaker(changed, client=3, room=1, listens=listens)


def greeting(speaks: Speaker) -> list[dict[str, Any]]:
    """Return the commands of a greeting, which is one frame."""
    frames, is_ready = speaks.greet()
    assert not is_ready
    (frame,) = frames
    return [json.loads(line) for line in frame.splitlines()]


def lines(*said: dict[str, Any]) -> bytes:
    return "\n".join(json.dumps(each, separators=(",", ":")) for each in said).encode()


def publication(offset: int, text: str = TEXT) -> dict[str, Any]:
    pub = {"data": text, "offset": offset}
    return {"push": {"channel": "t1", "pub": pub}}


def subscribed(**result: Any) -> bytes:
    return lines({"id": 1, "connect": {"pong": True}}, {"id": 2, "subscribe": result})


@pytest.mark.parametrize(
    ("wire", "url", "expected"),
    [
        (Wire.CENTRIFUGE, "ws://h:1", "ws://h:1/connection/websocket"),
        (Wire.CENTRIFUGE, "ws://h:1/", "ws://h:1/connection/websocket"),
        (Wire.CENTRIFUGE, "wss://h/mine?a=b", "wss://h/mine?a=b"),
        (Wire.SOCKETIO, "ws://h", "ws://h/socket.io/?EIO=4&transport=websocket"),
        (Wire.SOCKETIO, "ws://h/s/", "ws://h/s/?EIO=4&transport=websocket"),
        (Wire.TEXT, "ws://h/{room}/{client}?{room}", "ws://h/7/9?7"),
        (Wire.TEXT, "ws://h", "ws://h/"),
    ],
)
def test_clients_connect_to_the_usual_place(
    wire: Wire, url: str, expected: str
) -> None:
    assert address(plan(wire, url=url), client=9, room=7) == expected


@pytest.mark.parametrize("wire", Wire)
def test_what_is_published_is_found_again(wire: Wire) -> None:
    speaks = speaker(
        plan(wire, template='{"from":"{client}","text":"{message}"}'), client=3, room=1
    )
    frame = speaks.publish(TEXT)
    assert find_stamps(frame.encode()) == [Stamp(1, 2, 3)]
    json.loads(frame.removeprefix("42"))


def test_text_takes_every_frame_for_messages() -> None:
    speaks = speaker(
        plan(
            Wire.TEXT,
            template="{client}@{room}: {message}!",
            greeting=("join {room}", "{}"),
        ),
        client=3,
        room=1,
    )
    assert speaks.greet() == (["join 1", "{}"], True)
    assert speaks.publish("x") == "3@1: x!"
    assert speaks.is_plain(b"whatever")
    assert not speaks.can_resume()


def test_socketio_connects_answers_pings_and_hears_events() -> None:
    speaks = speaker(plan(Wire.SOCKETIO, topic='say "{room}"'), client=3, room=1)
    assert speaks.greet() == ([], False)
    assert speaks.read(b'0{"sid":"x"}') == Said(answers=("40",))
    assert speaks.read(b'40{"sid":"y"}') == Said(is_ready=True)
    assert speaks.read(b"2") == Said(answers=("3",))
    assert speaks.publish(TEXT) == f'42["say \\"1\\"","{TEXT}"]'
    assert speaks.is_plain(speaks.publish(TEXT).encode())
    assert speaks.read(b"6") == QUIET
    assert speaks.read(b'44{"message":"no"}').ended == 'refused: {"message":"no"}'
    assert speaks.read(b"41").ended
    assert speaks.read(b"1").ended
    assert "not Socket.IO 4" in speaks.read(b"hello").complaint
    assert not speaks.can_resume()


def test_centrifuge_connects_subscribes_and_answers_pings() -> None:
    speaks = centrifuge(token="secret")
    assert greeting(speaks) == [
        {"id": 1, "connect": {"token": "secret"}},
        {"id": 2, "subscribe": {"channel": "t1"}},
    ]
    assert speaks.read(lines({"id": 1, "connect": {"pong": True}})) == QUIET
    assert speaks.read(lines({"id": 2, "subscribe": {}})) == Said(is_ready=True)
    assert speaks.read(b"{}") == Said(answers=("{}",))
    assert speaks.read(b"{}\n" + lines(publication(1))) == Said(answers=("{}",))
    ids = [json.loads(speaks.publish(TEXT))["id"] for _ in range(3)]
    assert ids == [3, 4, 5]


def test_centrifuge_sends_no_pongs_to_who_wants_none() -> None:
    speaks = centrifuge(listens=False)
    assert greeting(speaks) == [{"id": 1, "connect": {}}]
    assert speaks.read(lines({"id": 1, "connect": {}})) == Said(is_ready=True)
    assert speaks.read(b"{}") == QUIET


def test_centrifuge_looks_closer_at_what_is_not_only_publications() -> None:
    speaks = centrifuge()
    assert speaks.is_plain(lines(publication(1)))
    assert speaks.is_plain(lines(publication(1), publication(2)))
    assert not speaks.is_plain(lines(publication(1), {}))
    assert not speaks.is_plain(b"{}")
    assert not speaks.is_plain(lines({"id": 3, "publish": {}}))
    assert not speaks.is_plain(subscribed(publications=[{"data": TEXT, "offset": 1}]))


def test_centrifuge_says_what_the_server_refuses() -> None:
    speaks = centrifuge()
    error = {"code": 103, "message": "permission denied"}
    refused = speaks.read(lines({"id": 7, "error": error}, {"id": 8, "error": error}))
    assert refused == Said(refused=(4, 5), complaint="error 103 permission denied")
    for number in (1, 2):
        said = speaks.read(lines({"id": number, "error": error}))
        assert said.ended == "error 103 permission denied"
    pushed = {"push": {"disconnect": {"code": 3008, "reason": "slow"}}}
    assert speaks.read(lines(pushed)).ended == "3008 slow"


@pytest.mark.parametrize(("code", "is_gap"), [(2000, False), (2500, True)])
def test_centrifuge_takes_the_end_of_a_subscription_for_the_end(
    code: int, is_gap: bool
) -> None:
    reason = {"code": code, "reason": "why"}
    said = centrifuge().read(lines({"push": {"channel": "t1", "unsubscribe": reason}}))
    assert (said.is_gap, said.ended) == (is_gap, f"unsubscribed: {code} why")


def test_centrifuge_resumes_from_what_it_has_seen() -> None:
    speaks = centrifuge(scenario=Scenario.RESUME)
    assert not speaks.can_resume()
    assert greeting(speaks)[1]["subscribe"] == {
        "channel": "t1",
        "positioned": True,
        "recoverable": True,
    }
    said = speaks.read(subscribed(recoverable=True, epoch="e", offset=4))
    assert said == Said(is_ready=True)
    assert speaks.can_resume()
    speaks.note(lines(publication(5), publication(6)))
    asked = greeting(speaks)[1]["subscribe"]
    assert (asked["recover"], asked["epoch"], asked["offset"]) == (True, "e", 6)
    missed = [{"data": TEXT, "offset": 7}, {"data": TEXT, "offset": 8}]
    result = subscribed(
        recoverable=True,
        recovered=True,
        was_recovering=True,
        epoch="e",
        offset=6,
        publications=missed,
    )
    assert speaks.read(result) == Said(is_ready=True, is_resumed=True)
    # Had it dropped again at once, what the reply brought would not be asked for.
    assert greeting(speaks)[1]["subscribe"]["offset"] == 8


def test_centrifuge_begins_anew_where_the_stream_has() -> None:
    speaks = centrifuge(scenario=Scenario.STORM)
    speaks.greet()
    speaks.read(subscribed(recoverable=True, epoch="old", offset=900))
    speaks.note(lines(publication(905)))
    speaks.greet()
    result = {"recoverable": True, "was_recovering": True, "epoch": "new", "offset": 3}
    assert speaks.read(subscribed(**result)) == Said(is_ready=True, is_resumed=False)
    asked = greeting(speaks)[1]["subscribe"]
    assert (asked["epoch"], asked["offset"]) == ("new", 3)


@pytest.mark.parametrize("wire", Wire)
@given(
    frame=st.binary(max_size=200),
    json_like=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.dictionaries(
            st.sampled_from(["id", "error", "connect", "subscribe", "push", "code"]),
            inner,
        ),
        max_leaves=8,
    ),
)
def test_no_server_can_make_a_client_raise(
    wire: Wire, frame: bytes, json_like: Any
) -> None:
    speaks = speaker(plan(wire, scenario=Scenario.RESUME), client=0, room=0)
    for each in (frame, json.dumps(json_like).encode()):
        speaks.greet()
        speaks.is_plain(each)
        speaks.read(each)
        speaks.note(each)
        speaks.can_resume()
