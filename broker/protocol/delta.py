"""Patches from one payload to the next, in Fossil SCM's delta format."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ("create_delta", "worthwhile_delta")

DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
BLOCK = 8  # bytes that must agree before a match is looked at; fossil takes 16
STEP = 4  # bytes between indexed blocks, a power of two: measured on lists in JSON
MAX_BLOCKS = 4096  # in the index; in a longer base they are further apart (guess)
MAX_CANDIDATES = 4  # places kept per block, else equal bytes take forever (guess)
PATIENCE = 128  # misses until the search takes longer strides (guess)
FIRST_LOOK = 32  # bytes compared at first; each further look takes twice as many
INSERT_COST = 3  # bytes of "1F4:", which a copy in the middle of new bytes adds


class Copy(NamedTuple):
    """``target[start:stop]`` is found in the base at ``offset``."""

    start: int
    stop: int
    offset: int

    @property
    def is_worth_it(self) -> bool:
        """Whether naming the place is shorter than repeating the bytes."""
        size = self.stop - self.start
        return size > len(_copy_of(self)) + INSERT_COST


def create_delta(base: bytes, target: bytes) -> bytes:
    """Return a patch that makes ``target`` out of ``base``.

    It may be longer than the target, by 15 bytes at most below 256 KiB. If the target
    is UTF-8, so is the patch, and so is each piece of new text in it: no cut is inside
    a character, which clients that read the patch as a JSON string rely on.

    The work grows with the sum of both lengths at most, whatever is in them: equal
    bytes, periods and near misses included. Much new content is searched less closely
    the longer nothing is found, so that a long move is found and a short one may not.

    Args:
        base: what the client has.
        target: what it shall have.

    Source: https://fossil-scm.org/home/doc/trunk/www/delta_format.wiki
    """
    parts = [_digits(len(target)), b"\n"]
    done = 0
    for copy in _copies(base, target):
        if copy.start > done:
            parts += _digits(copy.start - done), b":", target[done : copy.start]
        parts.append(_copy_of(copy))
        done = copy.stop
    if len(target) > done:
        parts += _digits(len(target) - done), b":", target[done:]
    parts += _digits(_checksum(target)), b";"
    return b"".join(parts)


def worthwhile_delta(base: bytes, target: bytes) -> bytes | None:
    """Return what ``create_delta`` does, or None if ``target`` itself is no longer."""
    delta = create_delta(base, target)
    return delta if len(delta) < len(target) else None


def _digits(number: int) -> bytes:
    """Return a number to the base of 64, the highest digit first."""
    digits = bytearray()
    while True:
        digits.append(DIGITS[number & 63])
        number >>= 6
        if not number:
            digits.reverse()
            return bytes(digits)


def _copy_of(copy: Copy) -> bytes:
    return b"%b@%b," % (_digits(copy.stop - copy.start), _digits(copy.offset))


def _checksum(data: bytes) -> int:
    """Return the sum of the big-endian 32-bit words; zeros fill the last one up."""
    padded = data + bytes(-len(data) % 4)
    words: tuple[int, ...] = struct.unpack(f">{len(padded) // 4}I", padded)
    return sum(words) & 0xFFFFFFFF


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _copies(base: bytes, target: bytes) -> Iterator[Copy]:
    """Yield what can be copied, from the first to the last, without overlap."""
    search = _Search(base, target)
    done, end = 0, len(target)
    head = search.trimmed(0, _alike_after(base, 0, target, 0, end), 0)
    if head.is_worth_it:
        yield head
        done = head.stop
    alike = _alike_before(base, len(base), target, end, end - done)
    tail = search.trimmed(end - alike, end, len(base) - alike)
    if tail.is_worth_it:
        end = tail.start
    yield from search.between(done, end)
    if tail.is_worth_it:
        yield tail


class _Search:
    def __init__(self, base: bytes, target: bytes) -> None:
        self._base = base
        self._target = target
        self._cuts_anywhere = target.isascii() or not _is_utf8(target)

    def between(self, done: int, end: int) -> Iterator[Copy]:
        """Yield copies that make up parts of ``target[done:end]``."""
        if end - done < BLOCK:
            return
        target, index = self._target, self._index()
        at, misses = done, 0
        while at <= end - BLOCK:
            offsets = index.get(target[at : at + BLOCK])
            if offsets is not None:
                copy = self._longest(at, offsets, done, end)
                # A match that is not worth it is short: it cost little to look at.
                if copy.is_worth_it:
                    yield copy
                    at = done = copy.stop
                    misses = 0
                    continue
            # An odd stride and a power of two: a long match meets an indexed block.
            at += 1 + 2 * (misses // PATIENCE)
            misses += 1

    def trimmed(self, start: int, stop: int, offset: int) -> Copy:
        """Return the match without the parts of characters at its ends."""
        target = self._target
        if self._cuts_anywhere:
            return Copy(start, stop, offset)
        first = start
        while start < stop and target[start] & 0xC0 == 0x80:
            start += 1
        while start < stop < len(target) and target[stop] & 0xC0 == 0x80:
            stop -= 1
        return Copy(start, stop, offset + start - first)

    def _longest(self, at: int, offsets: list[int], done: int, end: int) -> Copy:
        """Return the match that goes on longest, grown within ``target[done:end]``."""
        base, target = self._base, self._target
        best, offset = 0, 0
        for candidate in offsets:
            size = _alike_after(base, candidate, target, at, end - at)
            if size > best:
                best, offset = size, candidate
        before = _alike_before(base, offset, target, at, at - done)
        return self.trimmed(at - before, at + best, offset - before)

    def _index(self) -> dict[bytes, list[int]]:
        """Return where in the base which blocks begin."""
        base, step = self._base, STEP
        while len(base) > step * MAX_BLOCKS:
            step *= 2
        # Python's own hash, keyed per process: nobody can make blocks collide.
        index: dict[bytes, list[int]] = {}
        for offset in range(0, len(base) - BLOCK + 1, step):
            offsets = index.setdefault(base[offset : offset + BLOCK], [])
            if len(offsets) < MAX_CANDIDATES:
                offsets.append(offset)
        return index


def _alike_after(a: bytes, i: int, b: bytes, j: int, limit: int) -> int:
    """Return how many bytes from ``a[i]`` and ``b[j]`` on are equal, up to a limit."""
    limit = min(limit, len(a) - i)
    done, look = 0, FIRST_LOOK
    while done < limit:
        size = min(look, limit - done)
        one, other = a[i + done : i + done + size], b[j + done : j + done + size]
        if one != other:
            differs = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
            return done + size - (differs.bit_length() + 7) // 8
        done += size
        look *= 2
    return done


def _alike_before(a: bytes, i: int, b: bytes, j: int, limit: int) -> int:
    """Return how many bytes before ``a[i]`` and ``b[j]`` are equal, up to a limit."""
    limit = min(limit, i)
    done, look = 0, FIRST_LOOK
    while done < limit:
        size = min(look, limit - done)
        one, other = a[i - done - size : i - done], b[j - done - size : j - done]
        if one != other:
            differs = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
            return done + size - (differs.bit_length() + 7) // 8
        done += size
        look *= 2
    return done
