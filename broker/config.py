"""What can be set, with the source of every default."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import Enum
from functools import lru_cache

from .errors import UsageError
from .state.checks import (
    check_choice,
    check_kind,
    check_number,
    check_several,
    check_text,
)
from .topics import check_pattern, matches, namespace_of, overlaps, subject_of

__all__ = (
    "Access",
    "Limits",
    "Overflow",
    "Resume",
    "RuleBook",
    "TopicRules",
    "check_client_overflow",
)


MAX_HISTORY_BYTES = 8_388_608
_NAMESPACE = re.compile(r"[-_a-zA-Z0-9]+")


class Overflow(Enum):
    """What happens to a message for which a subscriber's outbox has no room."""

    DISCONNECT = "disconnect"  # end it; the client resumes by position: chat
    DROP_OLDEST = "drop_oldest"  # newest state wins: cursors, logs on a screen
    DROP_NEWEST = "drop_newest"  # what is queued stays queued: hints of jobs
    CONFLATE = "conflate"  # only the latest of each topic waits: prices
    BLOCK = "block"  # publishers wait, up to a deadline: pipelines in one process

    @property
    def is_lossless(self) -> bool:
        """Nothing is dropped for as long as the subscription lasts."""
        return self in (Overflow.DISCONNECT, Overflow.BLOCK)


def check_client_overflow(overflow: Overflow | None) -> None:
    """Refuse what is no policy for clients; None is left to the rules.

    Raises:
        UsageError: says why.
    """
    if overflow is None:
        return
    check_choice("overflow", overflow, Overflow)
    if overflow is Overflow.BLOCK:
        raise UsageError("a client must not hold up publishers: BLOCK is for code")


class Access(Enum):
    """Which clients may do something. Code that holds the broker always may."""

    ANYONE = "anyone"
    USERS = "users"  # sessions that authenticated as a user
    NOBODY = "nobody"  # only the application itself

    def allows(self, user: str | None) -> bool:
        """Return whether a client may; None is an anonymous one."""
        return self is Access.ANYONE or (self is Access.USERS and user is not None)


class Resume(Enum):
    """What a client that comes back gets of a topic with history."""

    MISSED = "missed"  # all that it has missed, or word that this cannot be
    LATEST = "latest"  # the last message: a value that each message replaces
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Every bound of one broker. All counts and sizes are > 0, all times in seconds.

    Attributes:
        max_message_bytes: largest payload, published or received (64 KiB: OWASP's
            WebSocket cheat sheet, "64KB or less").
        max_outbox_messages: most messages that wait for one subscriber (1,024: guess).
        max_outbox_bytes: the same in bytes (1 MiB: Centrifugo's queue_max_size).
        max_inbox_messages: most frames of one client that wait to be handled before
            its connection is no longer read (64: guess).
        max_inbox_bytes: the same in bytes (256 KiB: guess, four of the largest).
        max_queued_bytes: most bytes over all queues of this broker; a message that
            waits in many outboxes counts once (256 MiB: guess, a quarter of a
            small server).
        max_subscriptions: topics and patterns per session (128: Centrifugo's
            client.channel_limit).
        max_sessions: sessions of this broker (100,000: guess).
        max_sessions_per_host: sessions from one address; None for no limit, because
            behind a proxy that is not trusted all clients share one.
        max_sessions_per_user: sessions of one user; None for no limit (Centrifugo's
            client.user_connection_limit is off as well).
        messages_per_s: frames that one client may send, on average (per second; 100:
            twice what Ably allows a connection; None for no limit). Beyond it the
            session ends, with 4004.
        bytes_per_s: the same in bytes; beyond it the code is 4005 (1 MiB: guess, the
            largest message 16 times a second).
        user_messages_per_s: of all sessions of one user together; None for no limit,
            because each session has its own.
        user_bytes_per_s: the same in bytes.
        burst_s: how many seconds' worth of the rates may come at once (2: guess).
        max_topics: topics with history or subscribers (1,000,000: guess).
        block_s: how long ``publish`` waits for a subscriber with ``Overflow.BLOCK``
            before that subscriber is ended (30: guess; it holds up the application,
            not a person).
        stall_s: how long one send may take, or an inbox stay full, before the session
            ends (10: NATS' write_deadline; with ``grace_s`` it is over before the 20 s
            after which ``broker serve`` has the kernel cut such a client).
        hello_s: time to the client's first message; None for no limit, because a
            client that only listens is welcome (OWASP asks protocols for one).
        idle_s: time without a message in either direction; None for no limit.
        silence_s: time without a message from the client; None for no limit.
        grace_s: how long an ended session may take to flush, close and leave (5:
            guess; a close handshake is one round trip).
        idempotency_s: how long a ``message_id`` is remembered (300: Centrifugo's
            idempotent_result_ttl).
        max_message_ids: how many are remembered; the oldest go first (100,000: guess).
    """

    max_message_bytes: int = 65_536
    max_outbox_messages: int = 1_024
    max_outbox_bytes: int = 1_048_576
    max_inbox_messages: int = 64
    max_inbox_bytes: int = 262_144
    max_queued_bytes: int = 268_435_456
    max_subscriptions: int = 128
    max_sessions: int = 100_000
    max_sessions_per_host: int | None = None
    max_sessions_per_user: int | None = None
    messages_per_s: float | None = 100.0
    bytes_per_s: float | None = 1_048_576.0
    user_messages_per_s: float | None = None
    user_bytes_per_s: float | None = None
    burst_s: float = 2.0
    max_topics: int = 1_000_000
    block_s: float = 30.0
    stall_s: float = 10.0
    hello_s: float | None = None
    idle_s: float | None = None
    silence_s: float | None = None
    grace_s: float = 5.0
    idempotency_s: float = 300.0
    max_message_ids: int = 100_000

    def __post_init__(self) -> None:
        for each in fields(self):
            name, value, kind = each.name, getattr(self, each.name), str(each.type)
            if value is None and "None" in kind:
                continue
            if not check_number(f"Limits.{name}", value, whole=False) > 0:
                raise UsageError(f"Limits.{name} must be > 0, not {value!r}")
            check_number(f"Limits.{name}", value, whole="int" in kind)
        for name in ("max_outbox_bytes", "max_inbox_bytes"):
            if getattr(self, name) < self.max_message_bytes:
                raise UsageError(
                    f"Limits.{name} is below max_message_bytes: "
                    "the largest message would never fit"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRules:
    """Options of the topics that a pattern covers. The first rule that matches wins.

    Attributes:
        pattern: which topics; ``>`` for all.
        namespace: only topics whose name begins with ``namespace:``, as channels of the
            Centrifuge client protocol do; None for all. Letters, digits, ``_`` and
            ``-``.
        history_size: messages kept for ``history`` and resume (>= 0; 0 keeps none).
        history_bytes: most bytes of them per topic (> 0; 8 MiB: guess, 128 of the
            largest messages); the oldest go first.
        history_ttl_s: how long each is kept (s, > 0). Also how long a topic without
            subscribers keeps its epoch, so that clients may come back to it.
        presence: keep the list of sessions that are subscribed.
        join_leave: publish its changes on ``$presence.<topic>``; needs ``presence``.
        overflow: policy of subscribers that do not ask for another.
        subscribe: which clients may subscribe.
        publish: which clients may publish.
        read_presence: which clients of a protocol may ask who is there, if they are
            subscribed.
        read_history: which of them may ask for history; resume is for all.
        resume: what a client of a protocol gets when it comes back.
        delta: send clients that ask for it the difference to the message before.
    """

    pattern: str = ">"
    namespace: str | None = None
    history_size: int = 0
    history_bytes: int = MAX_HISTORY_BYTES
    history_ttl_s: float = 300.0  # AnyCable's history ttl; Ably keeps 2 minutes
    presence: bool = False
    join_leave: bool = False
    overflow: Overflow = Overflow.DISCONNECT
    subscribe: Access = Access.ANYONE
    publish: Access = Access.ANYONE
    read_presence: Access = Access.ANYONE
    read_history: Access = Access.ANYONE
    resume: Resume = Resume.MISSED
    delta: bool = False

    def __post_init__(self) -> None:
        check_pattern(self.pattern)
        if self.namespace is not None:
            check_text("namespace", self.namespace)
            if not _NAMESPACE.fullmatch(self.namespace):
                raise UsageError(
                    f"no namespace: {self.namespace!a}; write letters, digits, _ and -"
                )
        for name, kind in _CHOICES.items():
            check_choice(name, getattr(self, name), kind)
        check_number("history_size", self.history_size, whole=True)
        check_number("history_bytes", self.history_bytes, whole=True)
        check_number("history_ttl_s", self.history_ttl_s, whole=False)
        if self.history_size < 0:
            raise UsageError(f"history_size must be >= 0, not {self.history_size}")
        if not self.history_bytes > 0:
            raise UsageError(f"history_bytes must be > 0, not {self.history_bytes}")
        if not self.history_ttl_s > 0:
            raise UsageError(f"history_ttl_s must be > 0, not {self.history_ttl_s}")
        if self.resume is Resume.LATEST and not self.history_size:
            raise UsageError('resume="latest" needs history_size')
        if self.join_leave and not self.presence:
            raise UsageError("join_leave needs presence=True")

    def cover(self, subject: str) -> bool:
        """Return whether they are for this topic, or for all that a pattern covers."""
        is_inside = self.namespace is None or namespace_of(subject) == self.namespace
        return is_inside and matches(self.pattern, subject)

    def overlap(self, subject: str) -> bool:
        """Return whether they are for this topic, or for some that a pattern covers."""
        is_inside = (
            self.namespace is None
            or namespace_of(subject) == self.namespace
            or subject[0] in "*>"
        )
        return is_inside and overlaps(self.pattern, subject)


# {field: what it is one of}
_CHOICES: dict[str, type[Enum]] = {
    "overflow": Overflow,
    "subscribe": Access,
    "publish": Access,
    "read_presence": Access,
    "read_history": Access,
    "resume": Resume,
}


class RuleBook:
    """All rules of a broker, looked up by topic.

    Args:
        rules: in order of precedence; a topic that none covers gets the defaults.

    Attributes:
        namespaces: those that some rules are for.

    Raises:
        UsageError: they are no rules.
    """

    def __init__(self, rules: Iterable[TopicRules] = ()) -> None:
        check_several("rules", rules, TopicRules)
        self._rules = (*rules, TopicRules())
        for each in self._rules:
            check_kind("a rule", each, TopicRules)
        self.namespaces = frozenset(each.namespace for each in self._rules)
        # Names are at most 255 bytes: the cache holds 2 MB at most.
        self.of = lru_cache(maxsize=8_192)(self._find)

    def governing(self, name: str) -> list[TopicRules]:
        """Return every rule that decides about some topic that ``name`` covers.

        For a topic that is the one rule; for a pattern it may be several, and access
        to the pattern needs access under each of them.
        """
        subject = subject_of(name)
        found = []
        for rules in self._rules:
            if rules.overlap(subject):
                found.append(rules)
            if rules.cover(subject):
                break
        return found

    def _find(self, name: str) -> TopicRules:
        """Return the rules of a checked topic; of a pattern, what covers it all."""
        subject = subject_of(name)
        for rules in self._rules:
            if rules.cover(subject):
                return rules
        raise AssertionError("the last rule covers every topic")  # pragma: no cover
