"""What the coordinator and the generator processes say to each other: lines of JSON."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import Struct

from .plan import Plan
from .tally import Second, Sent, TallyResult

__all__ = (
    "MAX_LINE_BYTES",
    "Answer",
    "Connected",
    "Done",
    "Failed",
    "Go",
    "Last",
    "Order",
    "Ready",
    "Results",
    "Start",
    "Stop",
    "Tick",
    "answers",
    "line",
    "orders",
)

# Of the longest, ``Last`` and ``Results`` of a chat of many thousands (guess).
MAX_LINE_BYTES = 64 * 1024 * 1024


class Start(Struct, frozen=True, tag="start"):
    """Connect your clients."""

    plan: Plan
    process: int


class Go(Struct, frozen=True, tag="go"):
    """Publishing begins at that time (``time.monotonic_ns``)."""

    start_ns: int


class Stop(Struct, frozen=True, tag="stop"):
    """Publish no more, and go on as if that had been the plan."""


class Last(Struct, frozen=True, tag="last"):
    """All that was published, {publisher: what}: wait until it has come."""

    sent: dict[int, Sent]


Order: TypeAlias = Start | Go | Stop | Last


class Connected(Struct, frozen=True, tag="connected"):
    """So many of the clients are there."""

    count: int


class Ready(Struct, frozen=True, tag="ready"):
    """All clients are there.

    Attributes:
        can_resume: those who are to drop have a position to come back to.
    """

    can_resume: bool


class Tick(Struct, frozen=True, tag="tick", kw_only=True):
    """One second.

    Attributes:
        number: its end (s), since counting began.
        connected: clients that are.
        sent: messages in it, {room: how many}.
        refused: which the server would not take, as it said in it, {room: how many}.
        hearing: to how many a message is due now, {room: how many}; without those who
            come and go.
        heard: what came, class by class.
        late_ms: how late this process was with a message, or with anything (ms, the
            worst).
        cpu: of one core.
    """

    number: int
    connected: int
    sent: dict[int, int]
    refused: dict[int, int]
    hearing: dict[int, int]
    heard: dict[str, Second]
    late_ms: float
    cpu: float


class Done(Struct, frozen=True, tag="done"):
    """Publishing is over.

    Attributes:
        sent: {publisher: what it has sent}.
        unsent: messages that count and could not be sent.
        counted_s: how long messages were counted (s); less if it was stopped.
        delivered: deliveries of all classes in that time.
        cpu: of one core, in that time.
    """

    sent: dict[int, Sent]
    unsent: int
    counted_s: float
    delivered: int
    cpu: float


class Results(Struct, frozen=True, tag="results", kw_only=True):
    """All that this process has found.

    Attributes:
        connecting, returning, lateness, waking: as in ``Report``, encoded.
        unconnected: attempts to connect that failed, after all had been connected.
        away: clients that dropped and never came back.
        endings: {why the server ended a connection: how many}, the publishers apart.
        silenced: {why the server ended a publisher's connection: how many}.
        refusals: {why the server would not take a publication: how many}.
    """

    audiences: list[TallyResult]
    connecting: str
    returning: str
    lateness: str
    waking: str
    resumed: int
    not_resumed: int
    unconnected: int
    away: int
    endings: dict[str, int]
    silenced: dict[str, int]
    refusals: dict[str, int]


class Failed(Struct, frozen=True, tag="failed"):
    """This process cannot go on; one line says why."""

    why: str


Answer: TypeAlias = Connected | Ready | Tick | Done | Results | Failed

answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)
orders: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
encoder = msgspec.json.Encoder()


def line(message: Order | Answer) -> bytes:
    """Return a message as it is sent."""
    return encoder.encode(message) + b"\n"
