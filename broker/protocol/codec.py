"""The JSON form of the Centrifuge client protocol: text to commands, values to text.

What comes from clients is checked here once, so that what passes can go to other
clients as it stands: every payload is valid JSON in valid UTF-8, without lone
surrogates, and not so deep or with such long numbers that a common parser gives up.
Of keys given twice the last counts, at every level, as in JavaScript.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Raw

from broker.errors import BrokerError
from broker.message import Message, Payload

from . import frames

__all__ = (
    "INFO_HEADER",
    "MAX_DEPTH",
    "MAX_DIGITS",
    "TAG_PREFIX",
    "BadFrame",
    "check_limits",
    "checked",
    "client_info",
    "compact",
    "decode_commands",
    "encode_push",
    "encode_reply",
    "facts",
    "info_header",
    "line",
    "parsed",
    "publication_of",
    "push_fields",
    "raw_json",
    "raw_or_none",
)

ReadT = TypeVar("ReadT")

INFO_HEADER = "client-info"
TAG_PREFIX = "tag."
MAX_DEPTH = 128  # of what goes out: guess; json.loads gives up below 1000
MAX_DIGITS = 4300  # Source: sys.int_info.default_max_str_digits: json.loads stops there


class BadFrame(BrokerError):
    """A client's frame that is none of this protocol: disconnect 3501, bad request.

    Attributes:
        reason: one of few, without anything that the client gave: a metric's label.
        detail: where and what, for a log; nothing that the client gave either.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


# --- From clients ---


class _Command(msgspec.Struct):
    id: int = 0
    connect: frames.Connect | None = None
    subscribe: frames.Subscribe | None = None
    unsubscribe: frames.Unsubscribe | None = None
    publish: frames.Publish | None = None
    presence: frames.Presence | None = None
    presence_stats: frames.PresenceStats | None = None
    history: frames.History | None = None
    rpc: frames.Rpc | None = None
    send: frames.Send | None = None
    refresh: frames.Refresh | None = None
    sub_refresh: frames.SubRefresh | None = None


_decode: Callable[[bytes], _Command] = msgspec.json.Decoder(_Command).decode
_METHODS = _Command.__struct_fields__[1:]
_PONG = frames.Command(0, frames.Pong())
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
# Brackets become one kind, digits one digit; the rest goes, or becomes a space. So
# counting takes time that grows with a frame's length alone: a pattern of many digits
# would be tried anew at each of them, half a second for 64 KiB (measured).
_BRACKETS = bytes.maketrans(b"{}", b"[]"), bytes(set(range(256)) - set(b"[]{}"))
_DIGITS = bytes(48 if byte in b"0123456789" else 32 for byte in range(256))
_TOO_LONG = b"0" * (MAX_DIGITS + 1)


def decode_commands(
    frame: str | bytes, /, *, max_commands: int, max_depth: int
) -> list[frames.Command]:
    """Return the commands of one frame, in order; none of them if one is wrong.

    A line each, and white space around them all is ignored. ``{}`` is a ``Pong``, and
    so is any command but ``send`` whose id is 0. An unknown method is no method. What
    is null is absent where the protocol has an object, and wrong where it has
    anything else but data.

    Args:
        frame: bounded by the transport; the work is proportional to its size.
        max_commands: most lines (> 0).
        max_depth: most objects and arrays inside each other, the command's own two
            included (> 2). Python's ``json`` gives up somewhere below 1000.

    Raises:
        BadFrame: with one of the reasons "not UTF-8", "empty frame", "too many
            commands", "not JSON", "wrong field", "id out of range", "no method",
            "several methods", "nested too deep", "number too long".
    """
    raw = checked(frame)
    if raw.count(b"\n") >= max_commands:
        raise BadFrame("too many commands", f"more than {max_commands}")
    return [_command(line, max_depth) for line in raw.split(b"\n")]


def checked(frame: str | bytes) -> bytes:
    """Return a client's frame as UTF-8, without white space around it.

    Raises:
        BadFrame: "not UTF-8" or "empty frame".
    """
    # Both ways, since a str may hold lone surrogates, and msgspec.Raw takes any bytes.
    try:
        raw = frame.encode() if isinstance(frame, str) else frame.decode().encode()
    except UnicodeError as error:
        raise BadFrame("not UTF-8") from error
    raw = raw.strip(b" \t\r\n")
    if not raw:
        raise BadFrame("empty frame")
    return raw


def parsed(line: bytes, decode: Callable[[bytes], ReadT], max_depth: int) -> ReadT:
    """Return what a line of JSON says.

    Raises:
        BadFrame: "not JSON", "wrong field", "nested too deep" or "number too long".
    """
    try:
        read = decode(line)
    except msgspec.ValidationError as error:
        raise BadFrame("wrong field", str(error)) from error
    except msgspec.DecodeError as error:
        raise BadFrame("not JSON", str(error)) from error
    except RecursionError as error:
        raise BadFrame("nested too deep") from error
    check_limits(line, max_depth=max_depth)
    return read


def _command(line: bytes, max_depth: int) -> frames.Command:
    read = parsed(line, _decode, max_depth)
    if not 0 <= read.id <= frames.MAX_ID:
        raise BadFrame("id out of range")
    given = [r for name in _METHODS if (r := getattr(read, name)) is not None]
    if len(given) > 1:
        raise BadFrame("several methods")
    if read.id == 0 and read.send is None:
        return _PONG
    if not given:
        raise BadFrame("no method")
    return frames.Command(read.id, given[0])


def check_limits(raw: bytes, *, max_depth: int) -> None:
    """Refuse JSON that a common parser gives up on.

    Args:
        raw: valid JSON, so that strings end where they seem to.
        max_depth: most objects and arrays inside each other.

    Raises:
        BadFrame: "nested too deep" or "number too long".
    """
    if raw.count(b"{") + raw.count(b"[") > max_depth:
        _check_depth(raw, max_depth)
    if len(raw) > MAX_DIGITS:
        _check_digits(raw)


def _check_depth(line: bytes, max_depth: int) -> None:
    depth = 0
    for bracket in _STRING.sub(b"", line).translate(*_BRACKETS):
        if bracket == 91:  # "[": a loop over numbers beats all that are cleverer
            depth += 1
            if depth > max_depth:
                raise BadFrame("nested too deep", f"more than {max_depth} levels")
        else:
            depth -= 1


def _check_digits(line: bytes) -> None:
    # First with the strings: seldom is there such a run at all.
    if _TOO_LONG not in line.translate(_DIGITS):
        return
    if _TOO_LONG in _STRING.sub(b" ", line).translate(_DIGITS):
        raise BadFrame("number too long", f"more than {MAX_DIGITS} digits")


# --- To clients ---


# {type: the key that the protocol has it under}
_REPLY_KEYS: dict[type[frames.Result | frames.Error], str] = {
    frames.Error: "error",
    frames.ConnectResult: "connect",
    frames.SubscribeResult: "subscribe",
    frames.UnsubscribeResult: "unsubscribe",
    frames.PublishResult: "publish",
    frames.PresenceResult: "presence",
    frames.PresenceStatsResult: "presence_stats",
    frames.HistoryResult: "history",
    frames.RpcResult: "rpc",
    frames.RefreshResult: "refresh",
    frames.SubRefreshResult: "sub_refresh",
}
_PUSH_KEYS: dict[type[frames.PushBody], str] = {
    frames.Publication: "pub",
    frames.JoinPush: "join",
    frames.LeavePush: "leave",
    frames.UnsubscribePush: "unsubscribe",
    frames.MessagePush: "message",
    frames.SubscribePush: "subscribe",
    frames.ConnectPush: "connect",
    frames.DisconnectPush: "disconnect",
    frames.RefreshPush: "refresh",
}


def encode_reply(reply: frames.Reply) -> str:
    """Return a reply as one line of JSON.

    ``Raw`` fields go in as they are, but for line breaks: see ``raw_json``.

    Raises:
        UnicodeEncodeError: lone surrogates in a text of the application's.
    """
    return line({"id": reply.id, _REPLY_KEYS[type(reply.outcome)]: reply.outcome})


def encode_push(push: frames.Push) -> str:
    """Return a push as one line of JSON: ``{"push":{"channel":…,…}}``.

    ``Raw`` fields go in as they are, but for line breaks: see ``raw_json``.

    Raises:
        UnicodeEncodeError: lone surrogates in a text of the application's.
    """
    return line({"push": push_fields(push)})


def push_fields(push: frames.Push) -> dict[str, object]:
    """Return what a push says, by the protocol's keys."""
    body: dict[str, object] = {_PUSH_KEYS[type(push.body)]: push.body}
    return {"channel": push.channel, **body} if push.channel else body


def line(value: object) -> str:
    """Return a value as one line of JSON."""
    return compact(msgspec.json.encode(value)).decode()


def compact(raw: bytes) -> bytes:
    r"""Return valid JSON without its line breaks, which would end a line or an event.

    ``\r`` goes too: to server-sent events it is a line break. Strings cannot be hurt,
    for JSON has no raw control characters in them (RFC 8259, section 7), nor can two
    tokens run together, for there is always a comma, colon or bracket between.
    """
    if b"\n" in raw or b"\r" in raw:
        return raw.translate(None, b"\r\n")
    return raw


def raw_json(payload: Payload) -> Raw:
    """Return any payload as one JSON value, on one line.

    JSON stays what it is, be it str or bytes, so a str like ``12`` or ``null`` is a
    number or null. Other str becomes a JSON string, other bytes a JSON string of their
    Base64 (RFC 4648, section 4, padded). What only some parsers take for JSON (NaN,
    lone surrogates, a byte order mark, more than ``MAX_DEPTH`` levels or ``MAX_DIGITS``
    digits) is none.

    Raises:
        UnicodeEncodeError: a str with lone surrogates, which ``publish`` refuses too.
    """
    try:
        data = payload.encode() if isinstance(payload, str) else payload
        if isinstance(payload, bytes):
            payload.decode()  # msgspec.Raw takes any bytes inside strings
        msgspec.json.decode(data, type=Raw)
        check_limits(data, max_depth=MAX_DEPTH)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError, BadFrame):
        text = payload if isinstance(payload, str) else b64encode(payload).decode()
        return Raw(msgspec.json.encode(text))
    return Raw(compact(data))


def raw_or_none(text: str) -> Raw:
    """Return ``raw_json`` of a text, or ``NO_DATA`` if it is empty."""
    return raw_json(text) if text else frames.NO_DATA


def info_header(info: frames.ClientInfo) -> str:
    """Return the value of ``INFO_HEADER`` that names a publishing client."""
    return msgspec.json.encode(info).decode()


def publication_of(
    message: Message, raw: Callable[[Payload], Raw] = raw_json
) -> frames.Publication:
    """Return a message as the protocol has it.

    Headers are for the server (trace contexts are among them), so a client gets two
    kinds only: ``INFO_HEADER`` as ``info``, and those that begin with ``TAG_PREFIX``
    as ``tags``, without the prefix. An ``INFO_HEADER`` that cannot be read is left out.

    Args:
        raw: makes of the payload what ``data`` holds.
    """
    info = None
    tags = {}
    for name, value in message.headers.items():
        if name == INFO_HEADER:
            info = _info(value)
        elif name.startswith(TAG_PREFIX):
            tags[name.removeprefix(TAG_PREFIX)] = value
    position = message.position
    return frames.Publication(
        data=raw(message.payload),
        info=info,
        offset=0 if position is None else position.offset,
        tags=tags,
    )


def facts(conn_info: Raw, chan_info: Raw) -> str:
    """Return what others may know of a client, for its presence; "" for nothing."""
    known = _Facts(conn_info, chan_info)
    return "" if known == _Facts() else msgspec.json.encode(known).decode()


def client_info(user: str, client: str, known: str | Raw) -> frames.ClientInfo:
    """Return who a client is; ``known`` is what ``facts`` made, or empty."""
    text = known if isinstance(known, str) else bytes(known)
    if not text:
        return frames.ClientInfo(user, client)
    try:
        read = msgspec.json.decode(text, type=_Facts)
    except msgspec.DecodeError:  # of a session that speaks no protocol
        return frames.ClientInfo(user, client, chan_info=raw_json(text))
    return frames.ClientInfo(user, client, read.conn_info, read.chan_info)


class _Facts(frames.Frame, frozen=True, forbid_unknown_fields=True):
    conn_info: Raw = frames.NO_DATA
    chan_info: Raw = frames.NO_DATA


def _info(header: str) -> frames.ClientInfo | None:
    try:
        return msgspec.json.decode(header, type=frames.ClientInfo)
    except (msgspec.DecodeError, RecursionError):
        return None
