"""The protocol's values: what is written, what is left out, what reads back."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from broker.protocol import frames
from broker.protocol.frames import NO_DATA, Frame

STRUCTS = [
    value
    for value in vars(frames).values()
    if isinstance(value, type) and issubclass(value, Frame) and value is not Frame
]


def written(value: object) -> Any:
    return json.loads(msgspec.json.encode(value))


def required(struct: type[Frame]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(struct) if field.required]


def test_only_what_the_protocol_never_omits_is_required() -> None:
    """`Command`, `Reply` and `Push` are ours: the protocol names what is inside."""
    ours = {"Command", "Reply", "Push"}
    names = {s.__name__: required(s) for s in STRUCTS if s.__name__ not in ours}
    assert {name: fields for name, fields in names.items() if fields} == {
        "ClientInfo": ["user", "client"],
        "DisconnectPush": ["code", "reason"],
        "Error": ["code"],
        "HistoryResult": ["publications", "epoch", "offset"],
        "JoinPush": ["info"],
        "LeavePush": ["info"],
        "PresenceResult": ["presence"],
        "PresenceStatsResult": ["num_clients", "num_users"],
        "UnsubscribePush": ["code", "reason"],
    }


@pytest.mark.parametrize(
    "struct", [s for s in STRUCTS if not required(s)], ids=lambda s: s.__name__
)
def test_zero_values_are_left_out(struct: type[Frame]) -> None:
    assert written(struct()) == {}
    assert msgspec.json.decode(b"{}", type=struct) == struct()


def test_zero_values_that_are_never_left_out() -> None:
    assert written(frames.ClientInfo("", "")) == {"user": "", "client": ""}
    assert written(frames.PresenceResult({})) == {"presence": {}}
    stats = frames.PresenceStatsResult(0, 0)
    assert written(stats) == {"num_clients": 0, "num_users": 0}
    history = frames.HistoryResult([], "", 0)
    assert written(history) == {"publications": [], "epoch": "", "offset": 0}
    assert written(frames.UnsubscribePush(0, "")) == {"code": 0, "reason": ""}


def test_names_are_the_protocols() -> None:
    info = frames.ClientInfo("u", "c", Raw(b'{"a":1}'), Raw(b"[2]"))
    publication = frames.Publication(
        Raw(b'"d"'), info, 7, {"k": "v"}, True, 1_700_000_000_000, "other"
    )
    assert written(publication) == {
        "data": "d",
        "info": {"user": "u", "client": "c", "conn_info": {"a": 1}, "chan_info": [2]},
        "offset": 7,
        "tags": {"k": "v"},
        "delta": True,
        "time": 1_700_000_000_000,
        "channel": "other",
    }


def test_a_subscribe_of_centrifuge_js_reads() -> None:
    text = (
        b'{"channel":"c","flag":1,"recover":true,"epoch":"e","offset":9,"future":{},'
        b'"tf":{"op":"and","nodes":[{"key":"k","cmp":"in","vals":["a","b"]}]}}'
    )
    assert msgspec.json.decode(text, type=frames.Subscribe) == frames.Subscribe(
        channel="c",
        flag=1,
        recover=True,
        epoch="e",
        offset=9,
        tf=frames.FilterNode(
            "and", nodes=[frames.FilterNode(key="k", cmp="in", vals=["a", "b"])]
        ),
    )


def test_null_is_data() -> None:
    read = msgspec.json.decode(b'{"data":null}', type=frames.Publish)
    assert read.data == Raw(b"null")
    assert read.data != NO_DATA
    assert written(read) == {"data": None}


@pytest.mark.parametrize("offset", [-1, 2**63, 2**64])
def test_an_offset_is_bounded(offset: int) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"offset":%d}' % offset, type=frames.Subscribe)


def test_values_do_not_change() -> None:
    with pytest.raises(AttributeError):
        frames.Publish("c").channel = "d"  # type: ignore[misc] # frozen: that is tested


def test_all_names_are_sorted_and_documented() -> None:
    assert list(frames.__all__) == sorted(frames.__all__, key=_order)
    assert set(frames.__all__) >= {s.__name__ for s in STRUCTS}
    assert all(struct.__doc__ for struct in STRUCTS)


def _order(name: str) -> tuple[bool, str]:
    return not name.isupper(), name
