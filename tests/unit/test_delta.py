"""What patches look like, what they save, and how much is read to make them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest

from broker.protocol.delta import create_delta, worthwhile_delta
from tests.model.test_delta import (
    MAX_READS,
    Counted,
    apply_delta,
    parse,
    reads_per_byte,
)

KIB = 1024


def document(size_bytes: int) -> bytes:
    """Return JSON of about that size, in two scripts; little of it repeats."""
    rng = random.Random(size_bytes)
    words = ["рост", "падение", "flat", "Ёлка 🎄", "cafe\u0301"]
    rows: list[dict[str, object]] = []
    while len(json.dumps(rows, ensure_ascii=False).encode()) < size_bytes:
        row = {
            "id": len(rows),
            "price": rng.randrange(10**6),
            "note": rng.choice(words),
        }
        rows.append(row)
    return json.dumps(rows, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("base", "target", "delta"),
    [
        (b"", b"", b"0\n0;"),
        (b"x", b"", b"0\n0;"),
        (b"", b"abcd", b"4\n4:abcd1XObD_;"),
        (b"", b"\0\0\0\x01", b"4\n4:\0\0\0\x011;"),
        (b"", b"\0\0\0\0\x01", b"5\n5:\0\0\0\0\x0110000;"),
        (b"", b"\xff" * 8, b"8\n8:" + b"\xff" * 8 + b"3~~~~z;"),
        (b"\0" * 64, b"\0" * 64, b"10\n10@0,0;"),
        (b"\0" * 64, b"\0" * 60 + b"\0\0\0\x02", b"10\n~@0,1:\x022;"),
        (b"x" * 20 + b"\0" * 20, b"\0" * 20, b"K\nK@K,0;"),
    ],
)
def test_format(base: bytes, target: bytes, delta: bytes) -> None:
    assert create_delta(base, target) == delta
    assert apply_delta(base, delta) == target


@pytest.mark.parametrize(
    "delta",
    [
        b"",
        b"4",
        b"4\n",
        b"\n4:abcd1XObD_;",
        b"4\n4:abcd",
        b"4\n4:abcd1XObD_",
        b"4\n4:abcd1XObD0;",
        b"5\n4:abcd1XObD_;",
        b"4\n4:abcd1XObD_;;",
        b"4\n4@0;1XObD_;",
        b"4\n4@1,1XObD_;",
        b"4\n4!abcd1XObD_;",
        b"4\n0:4:abcd1XObD_;",
    ],
)
def test_the_decoder_of_these_tests_is_strict(delta: bytes) -> None:
    assert apply_delta(b"abcd", b"4\n4@0,1XObD_;") == b"abcd"
    with pytest.raises(ValueError, match=r"."):
        apply_delta(b"abcd", delta)


def test_the_same_again_is_one_copy() -> None:
    base = document(16 * KIB)
    assert len(create_delta(base, base)) <= 20


@pytest.mark.parametrize("size", [500, 4 * KIB, 60 * KIB])
def test_two_scattered_edits(size: int) -> None:
    base = document(size)
    target = bytearray(base)
    for at in (size // 4, 3 * size // 4):
        place = base.index(b'"price": ', at) + 9
        target[place : place + 3] = b"77777"
    delta = worthwhile_delta(base, bytes(target))
    assert delta is not None
    assert apply_delta(base, delta) == target
    assert len(delta) < min(size // 4, 500)


def test_what_moved_is_found() -> None:
    base = document(4 * KIB)
    target = base[3 * KIB :] + b"-- new --" + base[: 3 * KIB]
    assert len(create_delta(base, target)) < 100


def test_a_match_is_found_whole_though_blocks_are_indexed_apart() -> None:
    rng = random.Random(1)
    base, news = rng.randbytes(400), rng.randbytes(40)
    for start in range(130, 138):
        for size in (20, 27, 200):
            target = news + base[start : start + size] + news
            assert parse(create_delta(base, target))[1] == [
                (40, 0, news),
                (size, start, None),
                (40, 0, news),
            ]


def test_what_follows_much_news_is_found() -> None:
    """The search takes longer strides there, but still meets the next match."""
    rng = random.Random(1)
    base, news = rng.randbytes(KIB), rng.randbytes(20 * KIB)
    for start in range(8):
        target = news + base[start:] + news[: 5 * KIB]
        assert (KIB - start, start, None) in parse(create_delta(base, target))[1]


def test_a_long_base_is_not_read_as_closely() -> None:
    """Its index has a bound: memory does not grow with the base."""
    rng = random.Random(1)
    base = Counted(rng.randbytes(KIB * KIB))
    create_delta(base, rng.randbytes(100))
    assert base.reads < 64 * KIB


def test_nothing_in_common_is_not_worthwhile() -> None:
    rng = random.Random(1)
    for size in (0, 1, 20, KIB, 16 * KIB):
        base, target = rng.randbytes(size), rng.randbytes(size)
        assert worthwhile_delta(base, target) is None
        assert worthwhile_delta(b"", target) is None
        assert len(create_delta(base, target)) <= size + 15


def test_short_payloads_are_sent_as_they_are() -> None:
    assert worthwhile_delta(b'{"n": 1}', b'{"n": 2}') is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("я", "ю"),  # D1 8F, D1 8E
        ("п", "р"),  # D0 BF, D1 80
        ("р", "п"),
        ("😀", "😁"),  # only the last byte differs
        ("😀", "🀀"),  # only the first two agree
        ("€", "₭"),
        ("é", "e\u0301"),
        ("👍🏽", "👍🏿"),
        ("👩‍💻", "👨‍💻"),
    ],
)
def test_no_cut_inside_a_character(old: str, new: str) -> None:
    for text in ("{0}", "Это {0} и ещё {0}, а потом конец", "😀😂{0}😂😀" * 5):
        for around in ("", "x" * 50, "жж" * 25):
            base = (around + text.format(old) + around).encode()
            target = (around + text.format(new) + around).encode()
            delta = create_delta(base, target)
            assert apply_delta(base, delta) == target
            for _, _, literal in parse(delta)[1]:
                assert literal is None or literal.decode()


def test_bytes_that_are_no_text_are_cut_anywhere() -> None:
    base = b"\x80" * 500 + b"\xff" + b"\x81" * 500
    assert len(create_delta(base, base.replace(b"\xff", b"\xfe"))) < 30


HOSTILE: dict[str, Callable[[int], tuple[bytes, bytes]]] = {
    "equal": lambda n: (b"a" * n, b"a" * n),
    "nearly equal": lambda n: (b"a" * n, b"b" + b"a" * (n - 2) + b"b"),
    "near misses": lambda n: (b"a" * n, (b"a" * 17 + b"b") * (n // 18)),
    "each block, then another end": lambda n: (
        b"".join(b"abcdefgh%04d" % i for i in range(n // 12)),
        b"".join(b"abcdefgh%04d" % (i * 7919 % 9999) for i in range(n // 12)),
    ),
    "too short to copy": lambda n: (b"abcdefgh" * (n // 8), b"abcdefgh-" * (n // 9)),
    "long and then not": lambda n: (
        b"x" + (b"a" * (n // 8 - 1) + b"b") * 8,
        b"y" + (b"a" * (n // 8 - 1) + b"c") * 8,
    ),
    "no text": lambda n: (b"\x80" * n, b"\x81" + b"\x80" * n + b"\x81"),
    "wide text": lambda n: (
        ("😀" * (n // 4)).encode(),
        ("😁" + "😀😀😀😁" * (n // 16)).encode(),
    ),
    "news": lambda n: (random.Random(n).randbytes(n), random.Random(-n).randbytes(n)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_reads_grow_with_the_length(name: str) -> None:
    """Counted, not timed: per byte, ten times the length costs no more."""
    for size in (KIB, 10 * KIB, 100 * KIB):
        assert reads_per_byte(*HOSTILE[name](size)) < MAX_READS
