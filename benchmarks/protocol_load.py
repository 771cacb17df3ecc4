"""The clients again, for the Centrifuge client protocol: every line is checked.

All clients must see the same lines in the same order, so the first to see a line has
it looked at, and the others' bytes are compared with it: a few nanoseconds a line.
"""

from __future__ import annotations

import json
import re
import socket
import time

from .load import Load, Reader, Sample, masked_frame, serve
from .serve import TOPIC, json_stamped

__all__ = ("Follower", "OutOfOrder", "ProtocolLoad", "Publications")

PUSH = b'{"push":'
STAMP = re.compile(rb'"data":"(\d+)')
OFFSET = re.compile(rb'"offset":(\d+)')
TEXT_FRAME = 0x81  # RFC 6455, section 5.2: text, and the last of its message
READ_BYTES = 65_536


class OutOfOrder(Exception):
    """A client was sent what it should not have got, or not yet, or not again."""


class Publications:
    """What every client must see.

    Attributes:
        text: the lines so far, each with its line break.
        offset: of the last line.
    """

    def __init__(self) -> None:
        self.text = bytearray()
        self.offset = 0

    def append(self, line: bytes) -> None:
        """Take the next line.

        Raises:
            OutOfOrder: its offset is not the next one.
        """
        found = OFFSET.search(line)
        if found is None or int(found[1]) != self.offset + 1:
            raise OutOfOrder(f"after offset {self.offset} came {line!r}")
        self.offset += 1
        self.text += line + b"\n"


class Follower:
    """One client: takes the stream of frames apart and counts the lines."""

    __slots__ = ("_at", "_pending", "_publications", "_sample")

    def __init__(self, publications: Publications, sample: Sample | None) -> None:
        self._publications = publications
        self._sample = sample
        self._pending = b""
        self._at = len(publications.text)

    def feed(self, data: memoryview) -> int:
        """Return how many publications are complete with this.

        Raises:
            OutOfOrder: one is missing, came twice or is not what the others got.
        """
        chunk = self._pending + data if self._pending else bytes(data)
        lines = start = 0
        while (bounds := payload_at(chunk, start)) is not None:
            first, start = bounds
            lines += self._take(chunk[first:start])
        self._pending = chunk[start:]
        return lines

    def rewind(self) -> None:
        """Begin anew with the publications, which have forgotten what was.

        Raises:
            OutOfOrder: some of it never came.
        """
        if self._at != len(self._publications.text):
            raise OutOfOrder("a client has not got all of the last run")
        self._at = 0

    def _take(self, payload: bytes) -> int:
        if self._sample is not None:
            now = time.monotonic_ns()
            stamps = STAMP.findall(payload)
            self._sample.latencies_ns += [now - int(each) for each in stamps]
        text, end = self._publications.text, self._at + len(payload)
        if text.startswith(payload, self._at) and text[end : end + 1] == b"\n":
            self._at = end + 1
            return payload.count(b"\n") + 1
        return sum(self._take_line(line) for line in payload.split(b"\n"))

    def _take_line(self, line: bytes) -> int:
        if not line.startswith(PUSH):
            check_reply(line)
            return 0
        text, end = self._publications.text, self._at + len(line)
        if self._at == len(text):
            self._publications.append(line)
        elif text[self._at : end + 1] != line + b"\n":
            raise OutOfOrder(f"others did not get {line!r} here")
        self._at = end + 1
        return 1


class ProtocolLoad(Load):
    """Clients that subscribe, and count lines; pings they do not answer."""

    path = "/connection/websocket"

    def __init__(self) -> None:
        super().__init__()
        self.publications = Publications()
        self.followers: list[Follower] = []
        self.commands = 2  # those of the greeting

    def greet(self, sock: socket.socket) -> None:
        """Connect and subscribe, and see that both were granted."""
        commands = (
            {"id": 1, "connect": {}},
            {"id": 2, "subscribe": {"channel": TOPIC}},
        )
        sock.sendall(masked_frame("\n".join(json.dumps(each) for each in commands)))
        answer, lines = b"", list[bytes]()
        while len(lines) < len(commands):
            data = sock.recv(READ_BYTES)
            if not data:
                raise ConnectionError(f"refused: {lines!r}")
            answer += data
            start = 0
            while (bounds := payload_at(answer, start)) is not None:
                first, start = bounds
                lines += answer[first:start].split(b"\n")
            answer = answer[start:]
        for line in lines:
            check_reply(line)

    def reader(self, *, is_sampled: bool) -> Reader:
        """Return what counts a client's lines, and notes their age if sampled."""
        sample = Sample() if is_sampled else None
        if sample is not None:
            self.samples.append(sample)
        follower = Follower(self.publications, sample)
        self.followers.append(follower)
        return follower

    def units(self, size: int) -> int:
        """Count lines."""
        return 1

    def words(self, size: int) -> str:
        """Return a publish command."""
        self.commands += 1
        data, topic = json_stamped(size), json.dumps(TOPIC)
        command = f'"publish":{{"channel":{topic},"data":{data}}}'
        return f'{{"id":{self.commands},{command}}}'

    def begin(self) -> None:
        """Forget the lines of the last run, which all have got."""
        for follower in self.followers:
            follower.rewind()
        self.publications.text.clear()


def payload_at(data: bytes, start: int) -> tuple[int, int] | None:
    """Return where the payload of the frame at ``start`` begins and ends, if it does.

    Raises:
        OutOfOrder: it is not a whole text from a server.
    """
    if len(data) < start + 2:
        return None
    if data[start] != TEXT_FRAME:
        raise OutOfOrder(f"not a text frame: {data[start : start + 200]!r}")
    size, first = data[start + 1], start + 2
    if size >= 126:
        wide = 2 if size == 126 else 8
        size, first = int.from_bytes(data[first : first + wide], "big"), first + wide
    return None if len(data) < first + size else (first, first + size)


def check_reply(line: bytes) -> None:
    """Raise OutOfOrder for anything but a reply that grants what was asked."""
    if not line.startswith(b'{"id":') or b'"error":' in line:
        raise OutOfOrder(f"neither a publication nor a result: {line!r}")


if __name__ == "__main__":
    serve(ProtocolLoad())
