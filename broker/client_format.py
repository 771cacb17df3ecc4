"""The forms that the Centrifuge client protocol has on the wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, cast

import msgspec
from msgspec import structs

from .ending import Ending
from .message import Gap, Item, Message, Payload
from .protocol import codec, frames, one_way, tokens
from .protocol.codes import Unsubscribes, disconnect_for
from .protocol.delta import worthwhile_delta
from .topics import PRESENCE_PREFIX, subject_of
from .transport import Frames, FrameT
from .wire import Join, WireFormat

__all__ = ("JSON", "ONE_WAY", "ClientFormat", "Decode")


# Of a publication: in larger ones the search for what is alike holds up everybody
# (32 KiB take 5 to 10 ms at worst, measured).
MAX_DELTA_BYTES = 32_768


class Decode(Protocol):
    """What reads a client's frames."""

    def __call__(
        self, frame: Payload, /, *, max_commands: int, max_depth: int
    ) -> list[frames.Command]:
        """Return the commands of a frame.

        Raises:
            codec.BadFrame: it is none.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClientFormat(Generic[FrameT]):
    """One form of the protocol.

    Attributes:
        takes: what clients send.
        decode: reads a client's frame.
        reply: makes the frame of a reply.
        push: makes the frame of a push.
        ping: the frame that asks whether the client is there.
        raw: makes of a payload what a ``Raw`` field of this form holds.
        payload: the reverse.
        text: makes of a payload's bytes, or of a patch, what a publication of a
            subscription with deltas holds.
        join: makes one frame of several.
        is_one_way: clients send nothing but the first frame, and no pongs.
        wire: how a session speaks it.
    """

    takes: Frames[FrameT]
    decode: Decode
    reply: Callable[[frames.Reply], Payload]
    push: Callable[[frames.Push], Payload]
    ping: Payload
    raw: Callable[[Payload], msgspec.Raw]
    payload: Callable[[msgspec.Raw], Payload]
    text: Callable[[bytes], msgspec.Raw]
    join: Join
    is_one_way: bool = False
    wire: WireFormat = field(init=False)

    def __post_init__(self) -> None:
        wire = WireFormat(
            encode=self.encode, join=self.join, close=_close, wrap=self.wrap
        )
        object.__setattr__(self, "wire", wire)

    def answer(
        self, number: int, outcome: frames.Result | tokens.Refusal | None
    ) -> Payload | None:
        """Return the reply, where there is one, and this form has a place for it."""
        if not number or outcome is None or isinstance(outcome, frames.DisconnectPush):
            return None
        if self.is_one_way and isinstance(outcome, frames.Error):
            return None
        return self.reply(frames.Reply(number, outcome))

    def publication(self, message: Message) -> frames.Publication:
        """Return a message as the protocol has it."""
        return codec.publication_of(message, self.raw)

    def whole(self, message: Message) -> frames.Publication:
        """Return a message as who has asked for deltas gets it: all of it."""
        publication = self.publication(message)
        return structs.replace(publication, data=self.text(bytes(publication.data)))

    def wrap(self, payload: Payload) -> Payload:
        """Return the frame of a message to one client."""
        return self.push(frames.Push("", frames.MessagePush(self.raw(payload))))

    def encode(self, item: Item) -> Payload:
        """Return the push for an item: a publication, a join, a leave, a lost place."""
        topic = item.topic
        if isinstance(item, Gap):  # of joins and leaves: their channel begins anew
            lost = Unsubscribes.INSUFFICIENT_STATE
            return self.push(frames.Push(subject_of(topic), lost))
        if topic.startswith(PRESENCE_PREFIX):
            return self._news(item)
        return self.push(frames.Push(topic, self.publication(item)))

    def encode_whole(self, item: Item) -> Payload:
        """Return the push for a message to who has asked for deltas: all of it."""
        assert isinstance(item, Message)
        return self.push(frames.Push(item.topic, self.whole(item)))

    def encode_change(self, base: Message, message: Message) -> Payload:
        """Return the push for a message to who has the one before it."""
        publication = self.publication(message)
        target = bytes(publication.data)
        patch = None
        if len(target) <= MAX_DELTA_BYTES:
            patch = worthwhile_delta(bytes(self.raw(base.payload)), target)
        if patch is None:
            return message.encoded(self.encode_whole)
        body = structs.replace(publication, data=self.text(patch), delta=True)
        return self.push(frames.Push(message.topic, body))

    def _news(self, message: Message) -> Payload:
        news = msgspec.json.decode(message.payload, type=_News)
        info = codec.client_info(news.user or "", news.client_id, news.info)
        is_join = news.event == "join"
        body = frames.JoinPush(info) if is_join else frames.LeavePush(info)
        return self.push(frames.Push(subject_of(message.topic), body))


class _News(msgspec.Struct):
    event: str
    client_id: str
    user: str | None = None
    info: msgspec.Raw = frames.NO_DATA


def _close(ending: Ending) -> tuple[int, str]:
    told = disconnect_for(ending)
    return told.code, told.reason


def _join_lines(lines: list[Payload]) -> Payload:
    return "\n".join(cast("list[str]", lines))


def _text(raw: msgspec.Raw) -> Payload:
    return bytes(raw).decode()


def _string(data: bytes) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(data.decode()))


JSON: ClientFormat[str] = ClientFormat(
    takes=Frames.TEXT,
    decode=codec.decode_commands,
    reply=codec.encode_reply,
    push=codec.encode_push,
    ping="{}",
    raw=codec.raw_json,
    payload=_text,
    text=_string,
    join=_join_lines,
)

ONE_WAY: ClientFormat[str] = replace(
    JSON,
    decode=one_way.decode_connect,
    reply=one_way.encode_reply,
    push=one_way.encode_push,
    is_one_way=True,
)
