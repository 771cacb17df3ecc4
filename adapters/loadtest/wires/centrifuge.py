"""The Centrifuge client protocol in its JSON form, as a client speaks it.

Written against the protocol's schema and not with the broker's own frames: a tester
must not share mistakes with what it tests.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from .base import Said

__all__ = ("CentrifugeSpeaker",)

PUBLICATION = b'"pub":{'
OFFSET = re.compile(rb'"offset":(\d+)')
PING = "{}"
CONNECT_ID, SUBSCRIBE_ID, FIRST_PUBLISH_ID = 1, 2, 3
INSUFFICIENT_STATE = 2500  # the server has lost track of what this client has
MAX_SHOWN = 200  # characters of a frame that a complaint shows
MAX_ID = 2**32 - 1  # uint32 in the schema


class _Reason(Struct):
    code: int = 0
    reason: str = ""


class _Error(Struct):
    code: int = 0
    message: str = ""

    def __str__(self) -> str:
        return f"error {self.code} {self.message}"


class _Connected(Struct):
    pong: bool = False


class _Subscribed(Struct):
    recoverable: bool = False
    recovered: bool = False
    was_recovering: bool = False
    epoch: str = ""
    offset: int = 0


class _Push(Struct):
    unsubscribe: _Reason | None = None
    disconnect: _Reason | None = None


class _Line(Struct):
    id: int = 0
    error: _Error | None = None
    connect: _Connected | None = None
    subscribe: _Subscribed | None = None
    push: _Push | None = None


class CentrifugeSpeaker:
    """Connects, subscribes to one channel, and publishes to it.

    Args:
        channel: its name.
        token: for the connect command; None for none.
        listens: subscribe at all; who does not can still publish.
        resumes: ask for a position, and for what was missed when it comes back.
    """

    __slots__ = (
        "_channel",
        "_epoch",
        "_has_pong",
        "_id",
        "_is_back",
        "_listens",
        "_offset",
        "_publish",
        "_resumes",
        "_token",
    )

    def __init__(
        self, channel: str, *, token: str | None, listens: bool, resumes: bool
    ) -> None:
        self._channel = channel
        self._token = token
        self._listens = listens
        self._resumes = resumes
        self._publish = f'"publish":{{"channel":{_json(channel)},"data":"'
        self._id = FIRST_PUBLISH_ID
        self._has_pong = True
        self._is_back = False
        self._epoch: str | None = None  # None: nothing to resume
        self._offset = 0

    def greet(self) -> tuple[list[str], bool]:
        """Return the connect and the subscribe command, in one frame."""
        connect = {} if self._token is None else {"token": self._token}
        lines = [_json({"id": CONNECT_ID, "connect": connect})]
        if self._listens:
            subscribe: dict[str, object] = {"channel": self._channel}
            if self._resumes:
                subscribe |= {"positioned": True, "recoverable": True}
            if self._epoch is not None:
                self._is_back = True
                subscribe |= {"recover": True, "epoch": self._epoch}
                subscribe["offset"] = self._offset
            lines.append(_json({"id": SUBSCRIBE_ID, "subscribe": subscribe}))
        return ["\n".join(lines)], False

    def publish(self, text: str) -> str:
        """Return a publish command with an id of its own."""
        number = self._id
        self._id = number + 1 if number < MAX_ID else FIRST_PUBLISH_ID
        return f'{{"id":{number},{self._publish}{text}"}}}}'

    def is_plain(self, frame: bytes) -> bool:
        """Return whether every line of a frame is a publication."""
        # No text of ours holds what is looked for. Where a server ends the last line
        # too, the frame is read once more and nothing is found.
        return frame.count(PUBLICATION) == frame.count(b"\n") + 1

    def read(self, frame: bytes) -> Said:
        """Return what the lines of a frame say, all in one."""
        ready, resumed, gap, ended = False, None, False, ""
        answers: list[str] = []
        refused: list[int] = []
        complaint = ""
        for text in frame.splitlines():
            if not text.strip():
                continue
            try:
                line = msgspec.json.decode(text, type=_Line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                shown = text[:MAX_SHOWN].decode(errors="replace")
                complaint = f"not the Centrifuge protocol in JSON: {shown!a}"
                continue
            if line.error is not None:
                complaint = str(line.error)
                if 0 < line.id < FIRST_PUBLISH_ID:
                    ended = complaint
                else:
                    refused.append(line.id - FIRST_PUBLISH_ID)
            elif line.connect is not None:
                self._has_pong = line.connect.pong
                ready = ready or not self._listens
            elif line.subscribe is not None:
                ready = True
                resumed = self._subscribed(line.subscribe)
                self.note(text)  # what was missed may be in it
            elif line.push is not None:
                self.note(text)
                if line.push.disconnect is not None:
                    told = line.push.disconnect
                    ended = f"{told.code} {told.reason}"
                elif line.push.unsubscribe is not None:
                    told = line.push.unsubscribe
                    ended = f"unsubscribed: {told.code} {told.reason}"
                    gap = told.code == INSUFFICIENT_STATE
            elif text.strip() == b"{}" and self._has_pong:
                answers.append(PING)
        said = tuple(refused), tuple(answers)
        return Said(ready, resumed, gap, *said, ended, complaint)

    def note(self, frame: bytes) -> None:
        """Take the offset of the last publication in a frame, if it has any."""
        self._offset = max(self._offset, *map(int, OFFSET.findall(frame)), 0)

    def can_resume(self) -> bool:
        """Return whether the server has given a position to resume from."""
        return self._epoch is not None

    def _subscribed(self, reply: _Subscribed) -> bool | None:
        asked, self._is_back = self._is_back, False
        if reply.recoverable and self._resumes:
            # Where it was, if recovered; the top of the stream, if not.
            self._epoch, self._offset = reply.epoch, reply.offset
        else:
            self._epoch = None
        return reply.recovered if asked else None


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
