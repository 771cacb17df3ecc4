"""The mark that each message carries: who sent it, which it is, and when it was due."""

from __future__ import annotations

import re
import struct
from binascii import crc_hqx, unhexlify
from typing import NamedTuple

__all__ = ("LEAST_BYTES", "Stamp", "find_stamps", "stamped")

# A mark that no protocol uses, then a record in hexadecimal digits. Nothing in it is
# ever escaped: not in JSON, nor in JSON inside JSON, nor in HTML or a URL.
MARK = "bench-"
CHECK_BYTES = 2  # CRC-CCITT: one broken stamp in 65,536 is taken for a whole one
RECORD = struct.Struct(f"!IIQ{CHECK_BYTES}x")
LEAST_BYTES = len(MARK) + 2 * RECORD.size
PADDING = "."
SEED = 0xFFFF  # not 0, for which a record of zeros would be whole

find = re.compile(rf"{MARK}([0-9a-f]{{{2 * RECORD.size}}})".encode()).findall


class Stamp(NamedTuple):
    """What a message says of itself.

    Attributes:
        publisher: its number in the whole test (0 to 2**32 - 1).
        number: of the message among those of its publisher (0 to 2**32 - 1).
        intended_ns: when it was to be sent, late or not, on ``time.monotonic_ns``'s
            clock, which all processes of a machine share (ns, 0 to 2**64 - 1).
    """

    publisher: int
    number: int
    intended_ns: int


make_stamp = Stamp._make


def stamped(stamp: Stamp, size: int) -> str:
    """Return a text of that many characters, all ASCII, that carries a stamp.

    No part of it is escaped by JSON, HTML or a URL, however often it is wrapped. The
    padding is one character again and again: what compresses makes nothing of it.

    Args:
        stamp: each of its numbers within its range.
        size: characters, and bytes (>= ``LEAST_BYTES``).

    Raises:
        ValueError: ``size`` is smaller than that, or a number is out of its range.
    """
    if size < LEAST_BYTES:
        raise ValueError(f"{size} bytes are too few for a stamp: {LEAST_BYTES} or more")
    try:
        record = RECORD.pack(*stamp)[:-CHECK_BYTES]
    except struct.error as error:
        raise ValueError(f"a number is out of its range: {stamp}") from error
    check = crc_hqx(record, SEED).to_bytes(CHECK_BYTES)
    return (MARK + (record + check).hex()).ljust(size, PADDING)


def find_stamps(frame: bytes) -> list[Stamp]:
    """Return every stamp in a frame, in order, whatever is around them.

    One that is cut off or altered is not found: its message then counts as missing. The
    same stamp twice is returned twice.
    """
    stamps = []
    for digits in find(frame):
        record = unhexlify(digits)
        if not crc_hqx(record, SEED):  # over a record and its check it is always 0
            stamps.append(make_stamp(RECORD.unpack(record)))
    return stamps
