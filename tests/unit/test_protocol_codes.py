"""The protocol's numbers, and which of them ends what."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.ending import Ending, EndKind
from broker.protocol.codes import (
    DISCONNECTS,
    ERRORS,
    UNSUBSCRIBES,
    Disconnects,
    Errors,
    disconnect_for,
    is_resubscribed,
    is_retried,
    is_terminal,
    plain_reason,
)
from broker.protocol.frames import DisconnectPush


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_the_tables_are_the_protocols() -> None:
    assert list(ERRORS) == list(range(100, 114))
    assert {code for code, error in ERRORS.items() if error.temporary} == {
        100,
        111,
        113,
    }
    reconnect = [3000, 3001, 3004, 3005, 3006, *range(3008, 3015)]
    assert list(DISCONNECTS) == [*reconnect, *range(3500, 3510), 1009]
    assert list(UNSUBSCRIBES) == [0, 1, 2000, 2500, 2501, 2502]


def test_reasons_are_plain_words() -> None:
    values = [e.message for e in ERRORS.values()]
    values += [d.reason for d in DISCONNECTS.values()]
    values += [u.reason for u in UNSUBSCRIBES.values()]
    assert all(text == plain_reason(text) for text in values)
    assert all(text.replace(" ", "").isalpha() for text in values)


@pytest.mark.parametrize(
    ("code", "terminal"),
    [
        (1000, False),
        (1009, False),
        (3000, False),
        (3499, False),
        (3500, True),
        (3999, True),
        (4000, False),
        (4499, False),
        (4500, True),
        (4999, True),
        (5000, False),
    ],
)
def test_terminal(code: int, terminal: bool) -> None:
    assert is_terminal(code) is terminal


def test_what_is_tried_again() -> None:
    assert {code for code, error in ERRORS.items() if is_retried(error)} == {
        100,
        109,
        111,
        113,
    }
    assert not is_resubscribed(2499)
    assert is_resubscribed(2500)


EXPECTED = {
    EndKind.BYTE_RATE: 3013,
    EndKind.CLIENT_LEFT: 3000,
    EndKind.COMPLETED: 3000,
    EndKind.DISCONNECTED: 3503,
    EndKind.HELLO_TIMEOUT: 3502,
    EndKind.IDLE: 3012,
    EndKind.INBOX_FULL: 3013,
    EndKind.INTERNAL_ERROR: 3004,
    EndKind.INVALID_TOPIC: 3501,
    EndKind.LIMIT_EXCEEDED: 3505,
    EndKind.MESSAGE_RATE: 3013,
    EndKind.MESSAGE_TOO_LARGE: 1009,
    EndKind.NOT_ALLOWED: 3507,
    EndKind.ORIGIN_NOT_ALLOWED: 3507,
    EndKind.OVER_BUDGET: 3004,
    EndKind.SESSIONS: 3013,
    EndKind.SESSIONS_OF_HOST: 3013,
    EndKind.SESSIONS_OF_USER: 3504,
    EndKind.SHUTDOWN: 3001,
    EndKind.SILENT: 3012,
    EndKind.SLOW_CONSUMER: 3008,
    EndKind.STALLED: 3009,
    EndKind.WRONG_FRAME_TYPE: 3501,
}


@pytest.mark.parametrize("kind", EndKind)
def test_every_ending_is_told(kind: EndKind) -> None:
    assert disconnect_for(Ending.of(kind)) == DISCONNECTS[EXPECTED[kind]]


def test_the_applications_own_code_and_reason_stay() -> None:
    ending = Ending.of(EndKind.DISCONNECTED, "logged out", code=4501)
    assert disconnect_for(ending) == DisconnectPush(4501, "logged out")
    ending = Ending.of(EndKind.DISCONNECTED, code=3011)
    assert disconnect_for(ending) == Disconnects.FORCE_RECONNECT
    ending = Ending.of(EndKind.NOT_ALLOWED, "not on Sundays")
    assert disconnect_for(ending) == DisconnectPush(3507, "not on Sundays")


def test_codes_that_no_client_of_the_protocol_knows_are_not_told() -> None:
    ending = Ending.of(EndKind.DISCONNECTED, code=1011)
    assert disconnect_for(ending) == Disconnects.FORCE_DISCONNECT


def test_an_empty_reason_would_make_a_terminal_code_reconnect() -> None:
    ending = Ending.of(EndKind.DISCONNECTED, "", code=4500)
    assert disconnect_for(ending) == DisconnectPush(4500, "force disconnect")


@pytest.mark.parametrize("text", ["404", "true", "null", '"x"', "{}", " 1 ", "NaN"])
def test_a_reason_that_is_json_is_led_by_words(text: str) -> None:
    assert plain_reason(text, "slow") == f"slow: {text.strip()}"


def test_a_reason_that_is_json_once_it_is_cut() -> None:
    assert plain_reason("1" * 123 + "x") == "disconnected: " + "1" * 109


@given(st.text(max_size=200) | st.integers().map(str) | st.just("[" * 5000))
def test_no_reason_is_misread(text: str) -> None:
    reason = plain_reason(text)
    assert reason
    assert not is_json(reason)
    assert len(reason.encode()) <= 123


def test_errors_are_told_as_they_are() -> None:
    assert Errors.TOKEN_EXPIRED.code == 109
    assert ERRORS[109] is Errors.TOKEN_EXPIRED
