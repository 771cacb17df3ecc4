"""What a load test is to do."""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ("Plan", "Scenario", "Slowness", "Wire")


class Scenario(StrEnum):
    """What the clients do."""

    FAN_OUT = "fan-out"  # one publisher; all others listen
    ROOMS = "rooms"  # the same in several rooms at once
    CHAT = "chat"  # everybody publishes in turn, and hears everybody
    CHURN = "churn"  # fan-out, while clients leave and others come
    STORM = "storm"  # fan-out; half way all listeners drop, and come back
    SLOW = "slow"  # fan-out, with some who stop reading or hardly read
    RESUME = "resume"  # fan-out; listeners drop in turn and resume where they were


class Wire(StrEnum):
    """How client and server speak."""

    TEXT = "text"  # your own server's frames, described by templates
    CENTRIFUGE = "centrifuge"  # the Centrifuge client protocol, JSON
    SOCKETIO = "socketio"  # Socket.IO 4 over WebSocket


class Slowness(StrEnum):
    """What a slow client does."""

    STALL = "stall"  # reads nothing any more
    TRICKLE = "trickle"  # reads a few hundred bytes a second


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One load test; all generator processes get the same.

    Attributes:
        url: of the endpoint, ``ws://`` or ``wss://``. ``{room}`` in it becomes the
            room's number, ``{client}`` the client's (both from 0).
        clients: listeners and publishers together (>= 2).
        rooms: how many rooms they are spread over (>= 1, at most half of ``clients``).
        rate_per_s: messages published in all (1/s, > 0). Each has an intended time; a
            generator or a server that falls behind does not stretch them.
        size_bytes: of each message's payload, its stamp included (bytes).
        warmup_s: of publishing that is not counted (s, >= 0).
        duration_s: of publishing that is (s, > 0).
        settle_s: how long to wait for what is still to come after that (s, >= 0).
        ramp_per_s: connections opened (1/s, > 0).
        processes: generator processes (>= 1).
        sources: how many local addresses to connect from: 127.0.0.1, 127.0.0.2, …
            (>= 1); one has about 28,000 ports. More than one only on loopback.
        slow_share: of the listeners, who are slow (0 to 1); with SLOW.
        churn_per_s: clients that leave, and that come (1/s); with CHURN.
        drop_s: how long a client stays away (s, >= 0); with STORM and RESUME.
        topic: the channel or event; ``{room}`` in it becomes the room's number.
        template: the frame that publishes, with ``{message}`` where the stamped text
            goes; with TEXT. ``{room}`` and ``{client}`` as in the URL.
        greeting: frames that a client sends first; with TEXT, same placeholders.
        token: for the Centrifuge connect command; None for none.
        insecure: do not look at the server's certificate; with ``wss://``.
        pid: the server's process, whose CPU and memory are read, with those of its
            children; None if it is elsewhere.
        label: what the report is called.
    """

    url: str
    scenario: Scenario = Scenario.FAN_OUT
    wire: Wire = Wire.CENTRIFUGE
    clients: int = 100
    rooms: int = 1
    rate_per_s: float = 10.0
    size_bytes: int = 128
    warmup_s: float = 1.0
    duration_s: float = 10.0
    settle_s: float = 5.0
    ramp_per_s: float = 500.0
    processes: int = 1
    sources: int = 1
    slow_share: float = 0.0
    slowness: Slowness = Slowness.STALL
    churn_per_s: float = 0.0
    drop_s: float = 1.0
    topic: str = "bench.{room}"
    template: str = "{message}"
    greeting: tuple[str, ...] = ()
    token: str | None = None
    insecure: bool = False
    pid: int | None = None
    label: str = ""
