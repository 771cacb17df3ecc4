"""Channels of single users: whose they are, and which names make none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import InvalidTopic
from broker.protocol.personal import is_open_to, personal_channel

USERS = st.text("ab1#,:.-_ é*>$", min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("namespace", "user", "channel"),
    [("", "42", "#42"), ("news", "42", "news:#42"), ("", "a:b", "#a:b")],
)
def test_names(namespace: str, user: str, channel: str) -> None:
    assert personal_channel(namespace, user) == channel


@pytest.mark.parametrize(
    "user", ["a,b", ",", "#", "#42", "4#2", "a b", "é", "*", "a.>", "a..b", "x" * 255]
)
def test_users_that_can_have_none(user: str) -> None:
    with pytest.raises(InvalidTopic):
        personal_channel("", user)


@pytest.mark.parametrize(
    ("channel", "user", "is_open"),
    [
        ("news", None, True),
        ("news", "42", True),
        ("#42", "42", True),
        ("#42", "4", False),
        ("#42", "424", False),
        ("#42", None, False),
        ("#42", "", False),
        ("#", None, False),
        ("#", "", False),
        ("#", "42", False),
        ("chat#42,43", "42", True),
        ("chat#42,43", "43", True),
        ("chat#42,43", "42,43", False),
        ("chat#42,", "", False),
        ("chat#42,,43", "", False),
        ("ns:chat#42", "42", True),
        ("#42#43", "43", True),
        ("#42#43", "42", False),
        ("#42#", "42", False),
    ],
)
def test_who_may(channel: str, user: str | None, is_open: bool) -> None:
    assert is_open_to(channel, user) is is_open


@given(owner=USERS, other=st.none() | USERS, namespace=st.sampled_from(["", "ns"]))
def test_ones_own_is_for_nobody_else(
    owner: str, other: str | None, namespace: str
) -> None:
    try:
        channel = personal_channel(namespace, owner)
    except InvalidTopic:
        return
    assert is_open_to(channel, other) == (other == owner)
