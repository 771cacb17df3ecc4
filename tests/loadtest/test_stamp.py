"""The mark of a message survives whatever a server wraps around it."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.loadtest.stamp import LEAST_BYTES, Stamp, find_stamps, stamped

numbers = st.integers(0, 2**32 - 1)
stamps = st.builds(Stamp, numbers, numbers, st.integers(0, 2**64 - 1))
sizes = st.integers(LEAST_BYTES, 300)


def in_json(text: str) -> str:
    return json.dumps({"event": "message", "data": f'Client #1 says: "{text}"\n'})


WRAPPERS: list[Callable[[str], str]] = [
    str,
    lambda text: f"Client #1 says: {text}",
    lambda text: f"0123456789abcdef{text}0123456789abcdef",
    in_json,
    lambda text: in_json(in_json(in_json(text))),
    lambda text: f'42["bench.0",{json.dumps(text)}]',
    html.escape,
    quote,
]


@given(stamps, sizes)
def test_a_text_has_its_size_and_needs_no_escapes(stamp: Stamp, size: int) -> None:
    text = stamped(stamp, size)
    assert len(text.encode("ascii")) == size
    assert json.dumps(text) == f'"{text}"'
    assert html.escape(text) == quote(text) == text


@pytest.mark.parametrize("wrap", WRAPPERS)
@settings(max_examples=30)
@given(stamp=stamps, size=sizes)
def test_it_is_found_in_whatever_it_was_wrapped(
    wrap: Callable[[str], str], stamp: Stamp, size: int
) -> None:
    assert find_stamps(wrap(stamped(stamp, size)).encode()) == [stamp]


@settings(max_examples=50)
@given(st.lists(st.tuples(stamps, sizes), max_size=20), st.sampled_from(WRAPPERS))
def test_all_of_a_joined_frame_are_found_in_order(
    marked: list[tuple[Stamp, int]], wrap: Callable[[str], str]
) -> None:
    texts = [wrap(stamped(stamp, size)) for stamp, size in marked]
    for joint in ("", "\n", "\x1e"):
        frame = joint.join(texts).encode()
        assert find_stamps(frame) == [stamp for stamp, _ in marked]


def test_the_same_twice_is_found_twice() -> None:
    text = stamped(Stamp(1, 2, 3), 50)
    assert find_stamps(f"{text} {text}".encode()) == [Stamp(1, 2, 3)] * 2


@given(stamps, st.integers(0, LEAST_BYTES - 1), st.sampled_from("0123456789abcdefg."))
def test_a_stamp_with_one_wrong_character_is_none(
    stamp: Stamp, at: int, character: str
) -> None:
    text = stamped(stamp, LEAST_BYTES)
    broken = f"{text[:at]}{character}{text[at + 1 :]}"
    assert find_stamps(broken.encode()) == ([stamp] if broken == text else [])


@given(stamps, st.integers(1, LEAST_BYTES))
def test_what_is_cut_off_is_none(stamp: Stamp, missing: int) -> None:
    text = stamped(stamp, LEAST_BYTES)
    assert find_stamps(text[:-missing].encode()) == []
    assert find_stamps(text[missing:].encode()) == []


@given(st.binary(max_size=200))
def test_other_frames_have_none(frame: bytes) -> None:
    assert find_stamps(frame) == []
    assert find_stamps(b"bench-" + b"0" * 36 + frame) == []


@pytest.mark.parametrize(
    ("stamp", "size", "message"),
    [
        (Stamp(0, 0, 0), LEAST_BYTES - 1, f"{LEAST_BYTES - 1} bytes are too few"),
        (Stamp(2**32, 0, 0), LEAST_BYTES, "out of its range"),
        (Stamp(0, 2**32, 0), LEAST_BYTES, "out of its range"),
        (Stamp(0, 0, -1), LEAST_BYTES, "out of its range"),
    ],
)
def test_what_cannot_be_stamped(stamp: Stamp, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stamped(stamp, size)
