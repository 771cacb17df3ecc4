"""Protobuf frames: what is read, what is refused, what is written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from adapters.protobuf import PROTOBUF
from broker.message import Gap, Message, Position
from broker.protocol import codec, frames

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)

PONG = frames.Command(0, frames.Pong())


def read(
    frame: bytes | str, max_commands: int = 16, max_depth: int = 128
) -> list[frames.Command]:
    return PROTOBUF.decode(frame, max_commands=max_commands, max_depth=max_depth)


def varint(number: int) -> bytes:
    """Return a number of at most fourteen bits."""
    if number < 0x80:
        return bytes([number])
    assert number < 0x4000
    return bytes([number & 0x7F | 0x80, number >> 7])


def sized(data: bytes) -> bytes:
    return varint(len(data)) + data


def held(number: int, data: bytes) -> bytes:
    """Return a field that holds bytes, text or a message."""
    return varint(number << 3 | 2) + sized(data)


def command(*fields: bytes, number: int = 1) -> bytes:
    """Return a command's bytes; by default it has an id."""
    return sized(held_number(1, number) + b"".join(fields))


def held_number(field: int, number: int) -> bytes:
    return varint(field << 3) + varint(number)


# --- What is read ---


def test_bytes_as_they_are_on_the_wire() -> None:
    """Written by hand: an id of 7, then field 7 with channel c and data 01 ff."""
    frame = b"\x0b\x08\x07\x3a\x07\x0a\x01c\x12\x02\x01\xff"
    assert read(frame) == [frames.Command(7, frames.Publish("c", Raw(b"\x01\xff")))]


def test_a_frame_is_read_as_a_whole_and_in_order() -> None:
    frame = command(held(4, held(1, b"t"))) + b"\0" + command(held(8, b""), number=300)
    assert read(frame) == [
        frames.Command(1, frames.Connect(token="t")),
        PONG,
        frames.Command(300, frames.Presence()),
    ]
    assert read(b"\0" * 16) == [PONG] * 16


@pytest.mark.parametrize(
    "frame",
    [
        b"\0",
        b"\x80\0",
        sized(held_number(1, 0)),
        command(held(4, b""), number=0),
        sized(held(13, b"")),
        sized(held(2, b"unknown")),
    ],
)
def test_what_has_no_id_is_a_pong(frame: bytes) -> None:
    assert read(frame) == [PONG]


def test_a_send_has_no_id() -> None:
    assert read(sized(held(12, held(1, b"x")))) == [
        frames.Command(0, frames.Send(Raw(b"x")))
    ]


def test_unknown_fields_are_passed_over() -> None:
    later = held(500, b"\xff") + held_number(501, 3)
    frame = command(later, held(7, later + held(1, b"c") + later))
    assert read(frame) == [frames.Command(1, frames.Publish("c"))]


def test_the_last_of_equal_fields_counts() -> None:
    fields = held(7, held(1, b"a") + held(2, b"x") + held(1, b"b"))
    assert read(command(fields)) == [frames.Command(1, frames.Publish("b", Raw(b"x")))]


def test_an_empty_payload_is_none() -> None:
    (read_command,) = read(command(held(7, held(2, b""))))
    assert isinstance(read_command.request, frames.Publish)
    assert read_command.request.data is frames.NO_DATA


# --- What is refused ---

METHOD = held(13, b"")

HOSTILE: list[tuple[bytes | str, str]] = [
    (b"", "empty frame"),
    ("", "not Protobuf"),
    ("{}", "not Protobuf"),
    (b'{"id":1,"connect":{}}', "not Protobuf"),
    (b"\x01", "not Protobuf"),  # longer than the frame
    (b"\xff\x7f", "not Protobuf"),
    (b"\x80", "not Protobuf"),  # a length that does not end
    (b"\xff" * 9, "not Protobuf"),
    (b"\xff" * 9 + b"\x01", "not Protobuf"),  # 2**64 - 1 bytes
    (b"\x80" * 10 + b"\0", "not Protobuf"),
    (b"\xff" * 65_536, "not Protobuf"),
    (sized(b"\x08"), "not Protobuf"),  # a number that is cut off
    (sized(b"\x08\x80"), "not Protobuf"),
    (sized(b"\x08" + b"\xff" * 11), "not Protobuf"),
    (sized(b"\x3a\x05\x0a"), "not Protobuf"),  # a message that is cut off
    (sized(b"\x3a\xff\xff\xff\xff\x0f"), "not Protobuf"),
    (sized(b"\x3a\x02\x0a\x7f"), "not Protobuf"),
    (sized(b"\x0f"), "not Protobuf"),  # no such wire type
    (sized(b"\x00\x00"), "not Protobuf"),  # no such field number
    (sized(b"\x7c"), "not Protobuf"),  # an end without a beginning
    (sized(b"\x7b"), "not Protobuf"),
    (command(held(7, held(1, b"\xff"))), "not Protobuf"),  # not UTF-8
    (command(held(7, held(1, b"\xed\xa0\x80"))), "not Protobuf"),
    (command(held(4, held(6, held(1, b"\xff")))), "not Protobuf"),
    (command(), "no method"),
    (command(held(11, b"")), "no method"),  # ping
    (command(held(99, b"")), "no method"),
    (command(held_number(7, 1)), "no method"),  # of another wire type
    (command(METHOD, held(7, b"")), "several methods"),
    (command(METHOD, held(7, b""), number=0), "several methods"),
    (sized(METHOD + held(12, b"")), "several methods"),
    (b"\0" * 17, "too many commands"),
    (command(METHOD) * 17, "too many commands"),
    (command(METHOD) + command(), "no method"),
    (command(METHOD) + b"\x01", "not Protobuf"),
    (
        command(held(5, b"\x38" + b"\xff" * 9 + b"\x01")),
        "wrong field",  # an offset of 2**64 - 1
    ),
    (command(held(10, held(8, b"\x08" + b"\x80" * 9 + b"\x01"))), "wrong field"),
]


@pytest.mark.parametrize(("frame", "reason"), HOSTILE)
def test_hostile_frames(frame: bytes | str, reason: str) -> None:
    with pytest.raises(codec.BadFrame) as caught:
        read(frame)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 200


def filtering(levels: int) -> bytes:
    """Return a subscribe whose filter has so many nodes inside each other."""
    node = held(1, b"not")
    for _ in range(levels - 1):
        node = held(6, node)
    return command(held(5, held(13, node)))


@pytest.mark.parametrize("most", [3, 4, 20, 90])
def test_depth_is_counted_as_it_is(most: int) -> None:
    nodes = most - 2  # the command and its request are two
    (deep,) = read(filtering(nodes), max_depth=most)
    assert isinstance(deep.request, frames.Subscribe)
    node = deep.request.tf
    for _ in range(nodes - 1):
        assert node is not None
        (node,) = node.nodes
    assert node == frames.FilterNode("not")
    with pytest.raises(codec.BadFrame, match="nested too deep"):
        read(filtering(nodes + 1), max_depth=most)


def test_the_deepest_are_refused_by_the_library() -> None:
    with pytest.raises(codec.BadFrame, match="not Protobuf"):
        read(filtering(1_000), max_depth=2_000)


@given(st.binary(max_size=80))
def test_anything_is_read_or_refused(frame: bytes) -> None:
    try:
        commands = read(frame)
    except codec.BadFrame:
        return
    assert commands


SAMPLES = [
    filtering(5),
    command(held(4, held(3, held(1, b"c") + held(2, held(7, b""))) + held(6, b""))),
    command(held(10, held(1, b"c") + held_number(7, 5) + held(8, held_number(1, 9)))),
    command(held(13, held(1, b"\xff\xfe") + held(2, b"method"))) + b"\0",
]


@given(st.sampled_from(SAMPLES), st.data())
def test_what_is_damaged_is_read_or_refused(frame: bytes, data: st.DataObject) -> None:
    damaged = bytearray(frame)
    for place in data.draw(st.lists(st.integers(0, len(frame) - 1), max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(1, len(frame))) :]
    try:
        commands = read(bytes(damaged))
    except codec.BadFrame:
        return
    assert commands


# --- Payloads ---


@given(st.binary(max_size=60))
def test_a_payload_arrives_as_it_was_sent(sent: bytes) -> None:
    payload = PROTOBUF.payload(Raw(sent))
    assert bytes(PROTOBUF.raw(payload)) == sent
    assert isinstance(payload, str) == (sent.decode(errors="ignore").encode() == sent)


@given(st.dictionaries(text, st.integers() | text, max_size=4))
def test_json_of_a_protobuf_client_is_json_to_others(value: dict[str, object]) -> None:
    sent = json.dumps(value).encode()
    (heard,) = read(command(held(7, held(2, sent))))
    assert isinstance(heard.request, frames.Publish)
    assert (
        json.loads(bytes(codec.raw_json(PROTOBUF.payload(heard.request.data)))) == value
    )


# --- What is written ---

INFO = held(1, b"u") + held(2, b"c")
HEADERS = {codec.INFO_HEADER: codec.info_header(frames.ClientInfo("u", "c"))}


@pytest.mark.parametrize(
    ("item", "written"),
    [
        (
            Message("t", 'a "text"\n', Position("e", 5), HEADERS),
            held(4, held(4, b'a "text"\n') + held(5, INFO) + held_number(6, 5)),
        ),
        (Message("t", b"\xff\0"), held(4, held(4, b"\xff\0"))),
        (Message("t", ""), held(4, b"")),
        (Gap("t", "e", 1, 2, 2), held(7, b"\x10\xc4\x13\x1a\x12insufficient state")),
    ],
)
def test_items(item: Message | Gap, written: bytes) -> None:
    push = held(4, held(2, b"t") + written)
    assert PROTOBUF.encode(item) == sized(push)


def test_what_is_sent_to_one_client() -> None:
    assert PROTOBUF.wire.wrap is not None
    pushed = sized(held(4, held(8, held(1, b"\xff"))))
    assert PROTOBUF.wire.wrap(b"\xff") == pushed


def test_several_are_one_frame() -> None:
    done = PROTOBUF.reply(frames.Reply(1, frames.PublishResult()))
    assert (
        PROTOBUF.join([done, PROTOBUF.ping, done]) == b"\4\x08\1\x42\0\0\4\x08\1\x42\0"
    )


@pytest.mark.parametrize("size", [0, 1, *range(120, 130), 16_000])
def test_lengths(size: int) -> None:
    data = b"x" * size
    frame = PROTOBUF.reply(frames.Reply(1, frames.RpcResult(Raw(data))))
    assert frame == command(held(13, held(1, data) if data else b""))


SURROGATES: list[Callable[[], object]] = [
    lambda: PROTOBUF.raw("\ud800"),
    lambda: PROTOBUF.push(frames.Push("\ud800", frames.RefreshPush())),
    lambda: PROTOBUF.reply(frames.Reply(1, frames.Error(1, "\ud800"))),
]


@pytest.mark.parametrize("say", SURROGATES)
def test_lone_surrogates_are_an_error(say: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"ud800|surrogates"):
        say()


def test_a_missing_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['google.protobuf'] = None; import adapters.protobuf"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert "pip install 'asgi-broker[protobuf]'" in run.stderr
