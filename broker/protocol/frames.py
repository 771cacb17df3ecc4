"""What the Centrifuge client protocol says, as values: commands, replies, pushes.

Field names are those of the protocol, and so is what each field means. Three kinds of
names keep its three kinds of messages apart: ``Subscribe`` is what a client asks,
``SubscribeResult`` what it is answered, ``SubscribePush`` what it is told unasked.

A field that has its zero value is left out of the JSON form, and one that was left out
reads as its zero value. Fields without a default here are always written. Unknown
fields are ignored, which is how experimental features are refused.

``msgspec.Raw`` fields hold one JSON value as it stands on the wire; in the Protobuf
form, any bytes. ``NO_DATA`` is "none given": never give ``Raw(b"")`` of another make,
which JSON cannot hold; take ``codec.raw_json`` to make one of a payload.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Raw, Struct, field

__all__ = (
    "MAX_ID",
    "NO_DATA",
    "ClientInfo",
    "Command",
    "Connect",
    "ConnectPush",
    "ConnectResult",
    "DisconnectPush",
    "Error",
    "FilterNode",
    "History",
    "HistoryResult",
    "JoinPush",
    "LeavePush",
    "MessagePush",
    "Pong",
    "Presence",
    "PresenceResult",
    "PresenceStats",
    "PresenceStatsResult",
    "Publication",
    "Publish",
    "PublishResult",
    "Push",
    "PushBody",
    "Refresh",
    "RefreshPush",
    "RefreshResult",
    "Reply",
    "Request",
    "Result",
    "Rpc",
    "RpcResult",
    "Send",
    "StreamPosition",
    "SubRefresh",
    "SubRefreshResult",
    "Subscribe",
    "SubscribePush",
    "SubscribeResult",
    "Unsubscribe",
    "UnsubscribePush",
    "UnsubscribeResult",
)

MAX_ID = 2**32 - 1  # uint32 in the schema

# The one object that "none given" is: encoding recognises it by identity.
NO_DATA = Raw()

# The schema says uint64; half of it is all that msgspec can check, that a signed
# column can store, and 2**10 times what a JavaScript number can count to.
Offset: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Uint32: TypeAlias = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Int32: TypeAlias = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class Frame(Struct, frozen=True, omit_defaults=True):
    """Base of all: immutable, compared by value, zero values left out."""


# --- Shared ---


class ClientInfo(Frame, frozen=True):
    """Who a client is, to others.

    Attributes:
        user: "" for an anonymous one.
        client: id of the connection.
        conn_info: from the connection token's ``info``.
        chan_info: from the subscription token's ``info``.
    """

    user: str
    client: str
    conn_info: Raw = NO_DATA
    chan_info: Raw = NO_DATA


class Publication(Frame, frozen=True):
    """One message of a channel; as a push's body its key is ``pub``.

    Attributes:
        data: with a granted delta always a JSON string.
        info: of the client that published; None if the server did.
        offset: where it stands in the stream (0 for "in none").
        delta: ``data`` is a patch to the publication before.
        time: when it was published (ms, Unix); 0 for "not said".
        channel: only where it differs from the subscription's.
    """

    data: Raw = NO_DATA
    info: ClientInfo | None = None
    offset: Offset = 0
    tags: dict[str, str] = field(default_factory=dict)
    delta: bool = False
    time: Int64 = 0
    channel: str = ""


class StreamPosition(Frame, frozen=True):
    """A place in a channel's stream."""

    offset: Offset = 0
    epoch: str = ""


class FilterNode(Frame, frozen=True):
    """A node of a filter on publications' tags.

    Attributes:
        op: "" for a comparison, else ``and``, ``or``, ``not`` of ``nodes``.
        cmp: ``eq neq in nin ex nex sw ew ct lt lte gt gte``; not checked here.
    """

    op: str = ""
    key: str = ""
    cmp: str = ""
    val: str = ""
    vals: list[str] = field(default_factory=list)
    nodes: list[FilterNode] = field(default_factory=list)


# --- Requests ---


class Subscribe(Frame, frozen=True, kw_only=True):
    """Ask for a channel's publications; in ``Connect.subs`` only the position counts.

    Attributes:
        flag: bit 2: refuse with error 112 where recovery is impossible.
        delta: "" or ``fossil``.
        tf: filter on publications' tags.
    """

    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: Offset = 0
    data: Raw = NO_DATA
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    delta: str = ""
    tf: FilterNode | None = None
    flag: Int64 = 0


class Connect(Frame, frozen=True, kw_only=True):
    """Introduce the client: the first command of every connection.

    Attributes:
        subs: {channel: position to recover from} of server-side subscriptions.
        name: of the client's kind; at most 16 characters by custom, not checked here.
        version: of the client's; at most 64 characters by custom.
        headers: stand-ins for those of HTTP that a browser cannot set.
    """

    token: str = ""
    data: Raw = NO_DATA
    subs: dict[str, Subscribe] = field(default_factory=dict)
    name: str = ""
    version: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    flag: Int64 = 0


class Unsubscribe(Frame, frozen=True):
    """Leave a channel."""

    channel: str = ""


class Publish(Frame, frozen=True):
    """Publish into a channel."""

    channel: str = ""
    data: Raw = NO_DATA


class Presence(Frame, frozen=True):
    """Ask who is in a channel."""

    channel: str = ""


class PresenceStats(Frame, frozen=True):
    """Ask how many are in a channel."""

    channel: str = ""


class History(Frame, frozen=True):
    """Ask for a channel's last publications.

    Attributes:
        limit: 0 for the position alone, -1 for all.
        since: exclusive, in both directions; None for "from the end that comes first".
        reverse: newest first.
    """

    channel: str = ""
    limit: Int32 = 0
    since: StreamPosition | None = None
    reverse: bool = False


class Rpc(Frame, frozen=True):
    """Call a method of the application."""

    method: str = ""
    data: Raw = NO_DATA


class Send(Frame, frozen=True):
    """Tell the application something; there is no reply."""

    data: Raw = NO_DATA


class Refresh(Frame, frozen=True):
    """Prolong the connection."""

    token: str = ""


class SubRefresh(Frame, frozen=True):
    """Prolong a subscription."""

    channel: str = ""
    token: str = ""


class Pong(Frame, frozen=True):
    """The client's answer to a ping: a command that says nothing."""


Request: TypeAlias = (
    Connect
    | Subscribe
    | Unsubscribe
    | Publish
    | Presence
    | PresenceStats
    | History
    | Rpc
    | Send
    | Refresh
    | SubRefresh
    | Pong
)


class Command(Frame, frozen=True):
    """One thing that a client asks.

    Attributes:
        id: the reply carries the same; 0 for ``Pong``, and for ``Send`` as a rule:
            neither is replied to.
    """

    id: int
    request: Request


# --- Results ---


class Error(Frame, frozen=True):
    """Why a command failed.

    Attributes:
        temporary: the client may try the same again.
    """

    code: Uint32
    message: str = ""
    temporary: bool = False


class SubscribeResult(Frame, frozen=True, kw_only=True):
    """What a subscription is, and what it has missed.

    Attributes:
        ttl: when to refresh (s from now), if ``expires``.
        offset: of the request if ``recovered``, else the stream's top.
        publications: the missed ones, oldest first.
        was_recovering: recovery was asked for; ``recovered`` says with what success.
    """

    expires: bool = False
    ttl: Uint32 = 0
    recoverable: bool = False
    epoch: str = ""
    publications: list[Publication] = field(default_factory=list)
    recovered: bool = False
    offset: Offset = 0
    positioned: bool = False
    data: Raw = NO_DATA
    was_recovering: bool = False
    delta: bool = False


class ConnectResult(Frame, frozen=True, kw_only=True):
    """What the connection is, and the server-side subscriptions it starts with.

    Attributes:
        client: id of the connection.
        ttl: when to refresh (s from now), if ``expires``.
        ping: how often the server pings (s); 0 for never.
        pong: pings are to be answered.
        session: for emulation and one-way transports; a secret of this client's.
        node: where to send emulated commands.
        time: of the server (ms, Unix).
    """

    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: Uint32 = 0
    data: Raw = NO_DATA
    subs: dict[str, SubscribeResult] = field(default_factory=dict)
    ping: Uint32 = 0
    pong: bool = False
    session: str = ""
    node: str = ""
    time: Int64 = 0


class UnsubscribeResult(Frame, frozen=True):
    """Done."""


class PublishResult(Frame, frozen=True):
    """Done."""


class PresenceResult(Frame, frozen=True):
    """Who is in a channel.

    Attributes:
        presence: {id of the connection: who}.
    """

    presence: dict[str, ClientInfo]


class PresenceStatsResult(Frame, frozen=True):
    """How many are in a channel."""

    num_clients: Uint32
    num_users: Uint32


class HistoryResult(Frame, frozen=True):
    """A channel's last publications, and the stream's top."""

    publications: list[Publication]
    epoch: str
    offset: Offset


class RpcResult(Frame, frozen=True):
    """What the method returned."""

    data: Raw = NO_DATA


class RefreshResult(Frame, frozen=True, kw_only=True):
    """How long the connection lives on.

    Attributes:
        ttl: when to refresh (s from now), if ``expires``.
    """

    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: Uint32 = 0


class SubRefreshResult(Frame, frozen=True, kw_only=True):
    """How long the subscription lives on.

    Attributes:
        ttl: when to refresh (s from now), if ``expires``.
    """

    expires: bool = False
    ttl: Uint32 = 0


Result: TypeAlias = (
    ConnectResult
    | SubscribeResult
    | UnsubscribeResult
    | PublishResult
    | PresenceResult
    | PresenceStatsResult
    | HistoryResult
    | RpcResult
    | RefreshResult
    | SubRefreshResult
)


class Reply(Frame, frozen=True):
    """The answer to the command with the same id."""

    id: int
    outcome: Result | Error


# --- Pushes ---


class JoinPush(Frame, frozen=True):
    """Somebody came into the channel."""

    info: ClientInfo


class LeavePush(Frame, frozen=True):
    """Somebody left the channel."""

    info: ClientInfo


class UnsubscribePush(Frame, frozen=True):
    """The server ended the subscription.

    Both fields are always written: centrifuge-python requires them.

    Attributes:
        code: from 2500 on the client subscribes again.
    """

    code: Uint32
    reason: str


class SubscribePush(Frame, frozen=True, kw_only=True):
    """The server subscribed the client to the channel."""

    recoverable: bool = False
    epoch: str = ""
    offset: Offset = 0
    positioned: bool = False
    data: Raw = NO_DATA


class MessagePush(Frame, frozen=True):
    """Something for this client alone, of no channel."""

    data: Raw = NO_DATA


class ConnectPush(Frame, frozen=True, kw_only=True):
    """The first push of a one-way transport; fields as in ``ConnectResult``."""

    client: str = ""
    version: str = ""
    data: Raw = NO_DATA
    subs: dict[str, SubscribeResult] = field(default_factory=dict)
    expires: bool = False
    ttl: Uint32 = 0
    ping: Uint32 = 0
    pong: bool = False
    session: str = ""
    node: str = ""
    time: Int64 = 0


class DisconnectPush(Frame, frozen=True):
    """The connection ends: a close frame for transports that have none.

    Attributes:
        code: see ``codes.is_terminal``.
        reason: never empty, and never JSON: see ``codes.plain_reason``.
    """

    code: Uint32
    reason: str


class RefreshPush(Frame, frozen=True, kw_only=True):
    """The server prolonged the connection."""

    expires: bool = False
    ttl: Uint32 = 0


PushBody: TypeAlias = (
    Publication
    | JoinPush
    | LeavePush
    | UnsubscribePush
    | MessagePush
    | SubscribePush
    | ConnectPush
    | DisconnectPush
    | RefreshPush
)


class Push(Frame, frozen=True):
    """What the server says unasked.

    Attributes:
        channel: "" for what concerns no channel.
    """

    channel: str
    body: PushBody
