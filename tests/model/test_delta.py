"""Patches against a strict decoder, on random edits of random texts and bytes."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator
from typing import SupportsIndex

from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.protocol.delta import create_delta, worthwhile_delta

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
MAX_READS = 30  # bytes read per byte of input: what "linear" may cost

Segment = tuple[int, int, bytes | None]  # count, offset in base, or what is new


def parse(delta: bytes) -> tuple[int, list[Segment], int]:
    """Return the length, the segments and the checksum; ValueError if malformed."""
    at = checksum = 0

    def number() -> int:
        nonlocal at
        start, value = at, 0
        while at < len(delta) and chr(delta[at]) in DIGITS:
            value = value * 64 + DIGITS.index(chr(delta[at]))
            at += 1
        if at == start:
            raise ValueError(f"no number at {at}")
        return value

    def mark() -> bytes:
        nonlocal at
        at += 1
        return delta[at - 1 : at]

    def rest() -> Iterator[Segment]:
        nonlocal at, checksum
        while True:
            count, operator = number(), mark()
            if operator == b"@":
                yield count, number(), None
                if mark() != b",":
                    raise ValueError(f"a copy does not end at {at}")
            elif operator == b":":
                yield count, 0, delta[at : at + count]
                at += count
            elif operator == b";":
                checksum = count
                return
            else:
                raise ValueError(f"no operator at {at}")

    length = number()
    if mark() != b"\n":
        raise ValueError("the length does not end")
    segments = list(rest())
    if at != len(delta):
        raise ValueError("something follows the checksum")
    return length, segments, checksum


def apply_delta(base: bytes, delta: bytes) -> bytes:
    """Return what the patch makes of the base; ValueError if it is not one for it."""
    length, segments, checksum = parse(delta)
    target = b""
    for count, offset, new in segments:
        piece = base[offset : offset + count] if new is None else new
        if len(piece) != count or not count:
            raise ValueError("a segment is empty, or longer than what there is")
        target += piece
    words = [target[i : i + 4].ljust(4, b"\0") for i in range(0, len(target), 4)]
    if sum(int.from_bytes(word, "big") for word in words) % 2**32 != checksum:
        raise ValueError("wrong checksum")
    if len(target) != length:
        raise ValueError("wrong length")
    return target


def is_text(data: bytes) -> bool:
    try:
        return bool(data.decode()) or not data
    except UnicodeDecodeError:
        return False


class Counted(bytes):
    """Bytes that know how many of them were read by index and slice."""

    reads = 0

    def __getitem__(self, key: SupportsIndex | slice) -> int | bytes:  # type: ignore[override]
        found = super().__getitem__(key)
        self.reads += len(found) if isinstance(found, bytes) else 1
        return found


def reads_per_byte(base: bytes, target: bytes) -> float:
    """Return how often each byte is looked at, and check the patch on the way."""
    counted = Counted(base), Counted(target)
    assert apply_delta(base, create_delta(*counted)) == target
    # What little there is to set up is not what grows.
    return sum(each.reads for each in counted) / (len(base) + len(target) + 64)


# Few characters of each width, so that neighbours share their first bytes and
# pieces repeat; among them a combining accent, a joiner and a variation selector.
WORDS = [
    "a",
    "é",
    "я",
    "ю",
    "ё",
    "€",
    "☃",
    "😀",
    "😁",
    "👍",
    "👍🏽",
    "👩‍💻",
    "❤️",
    "e\u0301",
    "й",
]
WORDS += [
    "price",
    '{"id": ',
    '", "name": "',
    "Привет, ",
    "мир",
    "\u0000",
    "\n",
    "0:",
    "@,;",
]
texts = st.lists(
    st.sampled_from(WORDS) | st.text(max_size=3), min_size=0, max_size=120
).map("".join)
cuts = st.tuples(st.integers(0, 2**16), st.integers(0, 12), texts.map(lambda t: t[:20]))


def unchanged(text: str) -> str:
    return text


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@st.composite
def edited_texts(draw: st.DrawFn) -> tuple[str, str]:
    """A text, and the same after a few replacements, moves and new normal forms."""
    base = target = draw(texts)
    for place, size, new in draw(st.lists(cuts, max_size=6)):
        at = place % (len(target) + 1)
        target = target[:at] + new + target[at + size :]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(target)))
        target = target[at:] + target[:at]
    change = draw(st.sampled_from([unchanged, composed, decomposed]))
    return base, change(target)


pieces = st.sampled_from([b"\x00", b"\xff", b"\x80\x80", b"\xf0\x9f", b"abcdefgh" * 3])


@st.composite
def edited_bytes(draw: st.DrawFn) -> tuple[bytes, bytes]:
    some = st.lists(pieces | st.binary(max_size=30), max_size=20).map(b"".join)
    base = target = draw(some)
    for place, size, _ in draw(st.lists(cuts, max_size=6)):
        at = place % (len(target) + 1)
        target = target[:at] + draw(some)[:40] + target[at + size :]
    return base, target


def encoded(text: str) -> bytes:
    return text.encode(errors="replace")


@given(edited_texts())
@example(("", ""))
@example(("я" * 40, "ю" * 40))
@example(("😀" * 40, "😁" * 40))
@example(("😀" * 20 + "x" + "😀" * 20, "😀" * 19 + "😁x" + "😀" * 20))
@settings(deadline=None, max_examples=300)
def test_patches_of_texts_are_text_piece_by_piece(pair: tuple[str, str]) -> None:
    base, target = encoded(pair[0]), encoded(pair[1])
    delta = create_delta(base, target)
    assert apply_delta(base, delta) == target
    assert is_text(delta)
    for count, offset, new in parse(delta)[1]:
        assert is_text(base[offset : offset + count] if new is None else new)


@given(st.binary(max_size=200) | edited_bytes().map(lambda p: p[0]), edited_texts())
@settings(deadline=None)
def test_patches_to_text_are_text_whatever_the_base(
    base: bytes, pair: tuple[str, str]
) -> None:
    target = encoded(pair[0])
    for mixed in (base, base + target[1:], target[:-1] + base):
        delta = create_delta(mixed, target)
        assert apply_delta(mixed, delta) == target
        assert is_text(delta)


@given(edited_bytes() | st.tuples(st.binary(), st.binary()))
@settings(deadline=None, max_examples=300)
def test_patches_of_bytes(pair: tuple[bytes, bytes]) -> None:
    base, target = pair
    delta = create_delta(base, target)
    assert apply_delta(base, delta) == target
    assert len(delta) <= len(target) + 15
    worthwhile = worthwhile_delta(base, target)
    assert worthwhile == (delta if len(delta) < len(target) else None)


@given(
    st.integers(0, 2**32),
    st.sampled_from(
        [(0x20, 0x7E), (0x410, 0x44F), (0x4E00, 0x9000), (0x1F300, 0x1FA00)]
    ),
    st.integers(500, 3000),
    st.lists(
        st.tuples(st.integers(0, 2**16), st.integers(0, 5), st.integers(0, 5)),
        max_size=5,
    ),
)
@settings(deadline=None)
def test_small_edits_make_small_patches(
    seed: int, alphabet: tuple[int, int], size: int, edits: list[tuple[int, int, int]]
) -> None:
    """In what does not repeat itself: there the next match is always near."""
    rng = random.Random(seed)
    letters = [chr(code) for code in range(*alphabet)]
    base = target = "".join(rng.choices(letters, k=size))
    for place, removed, added in edits:
        at = place % size
        new = "".join(rng.choices(letters, k=added))
        target = target[:at] + new + target[at + removed :]
    delta = create_delta(base.encode(), target.encode())
    # New text, its header, a copy, and the bytes before the next indexed block.
    per_edit = 5 * len(letters[0].encode()) + 4 + 8 + 20
    assert len(delta) <= 24 + per_edit * len(edits)


hostile = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"ab", b"a" * 17 + b"b", b"a" * 7 + b"c", b"abcdefgh"])
        | st.binary(min_size=1, max_size=20),
        st.integers(1, 400),
    ),
    max_size=5,
).map(lambda runs: b"".join(piece * times for piece, times in runs))


@given(hostile, hostile)
@settings(deadline=None)
def test_no_byte_is_read_more_often_than_a_constant(base: bytes, target: bytes) -> None:
    assert reads_per_byte(base, target) < MAX_READS
