"""What clients are told when their session ends."""

from __future__ import annotations

import pytest

from broker.ending import MAX_REASON_BYTES, Ending, EndKind, ending_for
from broker.errors import (
    BackplaneError,
    BrokerClosed,
    InvalidTopic,
    LimitExceeded,
    MessageTooLarge,
    NotAllowed,
    UsageError,
)

CODES = {
    EndKind.BYTE_RATE: 4005,
    EndKind.CLIENT_LEFT: 1000,
    EndKind.COMPLETED: 1000,
    EndKind.DISCONNECTED: 4000,
    EndKind.HELLO_TIMEOUT: 4001,
    EndKind.IDLE: 4002,
    EndKind.INBOX_FULL: 4007,
    EndKind.INTERNAL_ERROR: 1011,
    EndKind.INVALID_TOPIC: 1008,
    EndKind.LIMIT_EXCEEDED: 1008,
    EndKind.MESSAGE_RATE: 4004,
    EndKind.MESSAGE_TOO_LARGE: 1009,
    EndKind.NOT_ALLOWED: 1008,
    EndKind.ORIGIN_NOT_ALLOWED: 1008,
    EndKind.OVER_BUDGET: 1013,
    EndKind.SESSIONS: 1013,
    EndKind.SESSIONS_OF_HOST: 4010,
    EndKind.SESSIONS_OF_USER: 4011,
    EndKind.SHUTDOWN: 1012,
    EndKind.SILENT: 4003,
    EndKind.SLOW_CONSUMER: 4008,
    EndKind.STALLED: 4009,
    EndKind.WRONG_FRAME_TYPE: 1003,
}


@pytest.mark.parametrize("kind", EndKind)
def test_every_kind_has_its_code_and_a_reason(kind: EndKind) -> None:
    ending = Ending.of(kind)
    assert ending.kind is kind
    assert ending.code == CODES[kind]
    assert 0 < len(ending.reason.encode()) <= MAX_REASON_BYTES


def test_reason_and_code_can_be_given() -> None:
    ending = Ending.of(EndKind.DISCONNECTED, "banned", code=4321)
    assert ending == Ending(EndKind.DISCONNECTED, 4321, "banned")
    assert str(ending) == "disconnected (4321: 'banned')"
    assert Ending.of(EndKind.DISCONNECTED, "").reason == ""
    assert Ending.of(EndKind.DISCONNECTED, code=0).code == 0


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a" * 123, "a" * 123),
        ("a" * 124, "a" * 123),
        ("a" + "é" * 61, "a" + "é" * 61),  # 123 bytes
        ("é" * 62, "é" * 61),  # byte 123 is half a character
        ("aa" + "€" * 41, "aa" + "€" * 40),  # two thirds of one
        ("aaa" + "😀" * 31, "aaa" + "😀" * 30),  # none of it
        ("a" + "😀" * 31, "a" + "😀" * 30),  # half of it
    ],
)
def test_reasons_are_cut_between_characters(given: str, kept: str) -> None:
    assert Ending.of(EndKind.COMPLETED, given).reason == kept


def test_reasons_can_always_be_sent() -> None:
    assert Ending.of(EndKind.COMPLETED, "a\ud800b").reason == "a?b"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidTopic("a b", 1, "it has a space"), EndKind.INVALID_TOPIC),
        (MessageTooLarge(10, 5), EndKind.MESSAGE_TOO_LARGE),
        (LimitExceeded("max_subscriptions", 1), EndKind.LIMIT_EXCEEDED),
        (NotAllowed("members only"), EndKind.NOT_ALLOWED),
        (BrokerClosed("the broker is closed"), EndKind.SHUTDOWN),
    ],
)
def test_clients_are_told_their_faults(error: Exception, kind: EndKind) -> None:
    assert ending_for(error) == Ending(kind, CODES[kind], str(error))


@pytest.mark.parametrize(
    "error", [ValueError("secret"), UsageError("secret"), BackplaneError("secret")]
)
def test_clients_are_not_told_of_other_faults(error: Exception) -> None:
    assert ending_for(error) == Ending(EndKind.INTERNAL_ERROR, 1011, "internal error")
