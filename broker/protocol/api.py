"""What the server API says, as values: requests, results, and JSON to and from them.

Field names are those of Centrifugo's server API, and so is what each field means.
Unknown fields are ignored; a field that is null has the wrong type, unless it holds
data or an object.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from fnmatch import translate
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec
from msgspec import Raw, Struct, field

from broker.errors import BrokerError
from broker.message import Payload

from . import codec, frames
from .codes import Errors

__all__ = (
    "MAX_DEPTH",
    "NOT_FOUND",
    "STATUSES",
    "ApiError",
    "Batch",
    "Broadcast",
    "BroadcastResult",
    "ChannelInfo",
    "Channels",
    "ChannelsResult",
    "Disconnect",
    "DisconnectTold",
    "Done",
    "History",
    "Info",
    "InfoResult",
    "NodeInfo",
    "Outcome",
    "Presence",
    "Publish",
    "PublishResult",
    "Publishing",
    "Refresh",
    "Response",
    "Rpc",
    "Subscribe",
    "Unsubscribe",
    "bad_request",
    "check_body",
    "decode",
    "encode_batch",
    "encode_error",
    "encode_outcome",
    "facts_of",
    "glob",
    "headers_of",
    "payload_of",
)

MAX_DEPTH = 128  # guess: as ClientProtocol.max_depth, for payloads go to clients
MAX_GLOB = 255  # a pattern need not be longer than what it matches
NOT_FOUND: Final = frames.Error(104, "not found")

# {error code: HTTP status}, for who asks for errors in the transport; others are 500.
# Source: Centrifugo's X-Centrifugo-Error-Mode; 106 is no error of its API.
STATUSES: Final[Mapping[int, int]] = {
    100: 500,
    102: 404,
    104: 404,
    106: 503,
    107: 400,
    108: 400,
    112: 416,
    113: 409,
}


class ApiError(BrokerError):
    """A request that is answered with an error.

    Attributes:
        error: the code, and what is wrong in words for the caller.
    """

    def __init__(self, error: frames.Error, problem: str = "") -> None:
        message = f"{error.message}: {problem}" if problem else error.message
        super().__init__(message)
        self.error = frames.Error(error.code, message)


def bad_request(problem: str) -> ApiError:
    """Return error 107 and why."""
    return ApiError(Errors.BAD_REQUEST, problem)


# --- Requests ---

UnixTime: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=2**53)]


class Publishing(Struct, frozen=True, kw_only=True):
    """What is published, wherever it goes.

    Attributes:
        data: any JSON value.
        b64data: Base64 of bytes, in place of ``data``.
        tags: small facts that clients get beside the data.
        idempotency_key: publish once only, per channel; "" for "at any rate".
        version: not available; 0 for none.
    """

    data: Raw = frames.NO_DATA
    b64data: str = ""
    skip_history: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    idempotency_key: str = ""
    version: frames.Offset = 0


class Publish(Publishing, frozen=True, kw_only=True):
    """Publish into one channel."""

    channel: str = ""


class Broadcast(Publishing, frozen=True, kw_only=True):
    """Publish the same into several channels."""

    channels: list[str] = field(default_factory=list)


class Subscribe(Struct, frozen=True, kw_only=True):
    """Subscribe a user's clients, or one client.

    Attributes:
        info: about the client, for others in the channel.
        b64info: the same as Base64 of JSON.
        data: for the client.
        b64data: likewise.
        recover_since: begin after this position.
        expire_at: when it is over (s, Unix; 0 = never).
        override: not available.
    """

    user: str = ""
    channel: str = ""
    client: str = ""
    session: str = ""
    info: Raw = frames.NO_DATA
    b64info: str = ""
    data: Raw = frames.NO_DATA
    b64data: str = ""
    recover_since: frames.StreamPosition | None = None
    expire_at: UnixTime = 0
    override: Raw = frames.NO_DATA


class Refresh(Struct, frozen=True, kw_only=True):
    """Change when connections of a user, or of one client, end.

    Attributes:
        expired: now.
        expire_at: then (s, Unix; 0 = never).
    """

    user: str = ""
    client: str = ""
    session: str = ""
    expired: bool = False
    expire_at: UnixTime = 0


class Unsubscribe(Struct, frozen=True, kw_only=True):
    """End subscriptions of a user, or of one client."""

    user: str = ""
    channel: str = ""
    client: str = ""
    session: str = ""


class DisconnectTold(Struct, frozen=True, kw_only=True):
    """What disconnected clients are told; 0 and "" for what is usual."""

    code: frames.Uint32 = 0
    reason: str = ""


class Disconnect(Struct, frozen=True, kw_only=True):
    """End connections of a user, or one client.

    Attributes:
        whitelist: clients that stay.
    """

    user: str = ""
    client: str = ""
    session: str = ""
    whitelist: list[str] = field(default_factory=list)
    disconnect: DisconnectTold | None = None


class Presence(Struct, frozen=True, kw_only=True):
    """Ask who is in a channel, or how many."""

    channel: str = ""


class History(Struct, frozen=True, kw_only=True):
    """Ask for a channel's last publications.

    Attributes:
        limit: 0 for the position alone, below 0 for all.
        since: exclusive, in both directions.
    """

    channel: str = ""
    limit: frames.Int32 = 0
    since: frames.StreamPosition | None = None
    reverse: bool = False


class Channels(Struct, frozen=True, kw_only=True):
    """Ask which channels have clients."""

    pattern: str = ""


class Info(Struct, frozen=True):
    """Ask about the nodes."""


class Rpc(Struct, frozen=True, kw_only=True):
    """Call a method of the application."""

    method: str = ""
    params: Raw = frames.NO_DATA


class Batch(Struct, frozen=True, kw_only=True):
    """Several requests, answered in order.

    Attributes:
        commands: each with the one key of its method.
        parallel: leave to do them at once, of which no use is made.
    """

    commands: list[dict[str, Raw]] = field(default_factory=list)
    parallel: bool = False


RequestT = TypeVar("RequestT")


def check_body(body: bytes) -> None:
    """Refuse a body whose parts could not go to clients as they stand.

    Raises:
        ApiError: not JSON in UTF-8, or nested deeper than ``MAX_DEPTH``, or a number
            too long: 107.
    """
    try:
        body.decode()  # msgspec.Raw takes any bytes inside strings
        msgspec.json.decode(body, type=Raw)
        codec.check_limits(body, max_depth=MAX_DEPTH)
    except codec.BadFrame as error:
        raise bad_request(str(error)) from error
    except RecursionError as error:
        raise bad_request("nested too deep") from error
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise bad_request("not JSON in UTF-8") from error


def decode(body: bytes | Raw, kind: type[RequestT]) -> RequestT:
    """Return a request that ``check_body`` has seen, whole or as a part.

    Raises:
        ApiError: 107, with the field that is wrong.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise bad_request(str(error)) from error


def payload_of(request: Publishing) -> Payload:
    """Return what is to be published: JSON text, or bytes.

    Raises:
        ApiError: neither ``data`` nor ``b64data``, or no Base64: 107; history or
            versions that are not to be as the rules say: 108.
    """
    if request.skip_history:
        raise ApiError(Errors.NOT_AVAILABLE, "skip_history: rules decide on history")
    if request.version:
        raise ApiError(Errors.NOT_AVAILABLE, "version")
    if request.b64data:
        try:
            return b64decode(request.b64data, validate=True)
        except ValueError as error:
            raise bad_request("b64data is not Base64") from error
    if not bytes(request.data):
        raise bad_request("data is missing")
    return bytes(request.data).decode()


def facts_of(request: Subscribe) -> tuple[str, str]:
    """Return what others may know of the client, and what it is told: JSON, or "".

    Raises:
        ApiError: no Base64 of JSON: 107; an override: 108.
    """
    if bytes(request.override) not in (b"", b"null", b"{}"):
        raise ApiError(Errors.NOT_AVAILABLE, "override: rules decide")
    info = _json_of(request.info, request.b64info, "b64info")
    return info, _json_of(request.data, request.b64data, "b64data")


def _json_of(raw: Raw, base64: str, name: str) -> str:
    if not base64:
        return bytes(raw).decode()
    try:
        data = b64decode(base64, validate=True)
        check_body(data)
    except (ValueError, ApiError) as error:
        raise bad_request(f"{name} is not Base64 of JSON") from error
    return data.decode()


def headers_of(request: Publishing) -> dict[str, str]:
    """Return the headers that carry its tags."""
    return {codec.TAG_PREFIX + name: text for name, text in request.tags.items()}


def glob(pattern: str) -> re.Pattern[str]:
    """Return what tells whether a channel matches: ``*``, ``?`` and ``[a-c]``.

    Raises:
        ApiError: longer than a channel, or with braces or a backslash, of which the
            reference makes alternatives and escapes: 107.
    """
    if len(pattern) > MAX_GLOB:
        raise bad_request(f"pattern has more than {MAX_GLOB} characters")
    if set(pattern) & set("{}\\"):
        raise bad_request("pattern knows no braces and no backslash")
    # translate makes of stars what takes no time exponential in their number.
    return re.compile(translate(pattern))


# --- Results ---


class Done(Struct, frozen=True):
    """Done."""


class PublishResult(Struct, frozen=True, omit_defaults=True):
    """Where it stands in the stream; zero where the channel keeps no history."""

    offset: int = 0
    epoch: str = ""


class Response(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of several answers: a result or an error."""

    result: Any = None
    error: frames.Error | None = None


class BroadcastResult(Struct, frozen=True):
    """An answer for each channel, in order."""

    responses: list[Response]


class ChannelInfo(Struct, frozen=True):
    """How many clients are in a channel."""

    num_clients: int


class ChannelsResult(Struct, frozen=True):
    """Channels with clients."""

    channels: dict[str, ChannelInfo]


class NodeInfo(Struct, frozen=True, kw_only=True):
    """One node.

    Attributes:
        uptime: since the broker was entered (s).
    """

    uid: str
    name: str
    version: str
    num_clients: int
    num_users: int
    num_channels: int
    num_subs: int
    uptime: int


class InfoResult(Struct, frozen=True):
    """All nodes that answered."""

    nodes: list[NodeInfo]


Outcome: TypeAlias = (
    Done
    | PublishResult
    | BroadcastResult
    | frames.PresenceResult
    | frames.PresenceStatsResult
    | frames.HistoryResult
    | frames.RpcResult
    | ChannelsResult
    | InfoResult
    | frames.Error
)


def encode_outcome(outcome: Outcome) -> bytes:
    """Return ``{"result":…}`` or ``{"error":…}``."""
    is_error = isinstance(outcome, frames.Error)
    return msgspec.json.encode({"error" if is_error else "result": outcome})


def encode_error(error: frames.Error) -> bytes:
    """Return an error as a body of its own."""
    return msgspec.json.encode(error)


def encode_batch(replies: list[tuple[str, Outcome]]) -> bytes:
    """Return ``{"replies":[{method: result} or {"error":…}, …]}``, with no result.

    Args:
        replies: (method, what came of it).
    """
    return msgspec.json.encode(
        {
            "replies": [
                {"error" if isinstance(outcome, frames.Error) else method: outcome}
                for method, outcome in replies
            ]
        }
    )
