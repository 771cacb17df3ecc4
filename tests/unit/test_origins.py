"""Which web pages may connect."""

from __future__ import annotations

import pytest

from broker.errors import OriginNotAllowed, UsageError
from broker.state.origins import Origins


@pytest.mark.parametrize(
    ("origin", "host", "is_allowed"),
    [
        (None, "chat.example", True),  # no browser
        (None, None, True),
        ("https://chat.example", "chat.example", True),
        ("http://chat.example", "chat.example", True),  # TLS may end at a proxy
        ("https://Chat.Example", "chat.example", True),
        ("https://chat.example:8443", "chat.example:8443", True),
        ("https://chat.example", "chat.example:8443", False),
        ("https://chat.example.evil.example", "chat.example", False),
        ("https://evil.example/chat.example", "chat.example", False),
        ("https://evil.example#chat.example", "chat.example", False),
        ("https://evil.example@chat.example", "chat.example", False),
        ("ftp://chat.example", "chat.example", False),
        ("chat.example", "chat.example", False),
        ("//chat.example", "chat.example", False),
        ("null", "chat.example", False),
        ("null", "null", False),
        ("", "chat.example", False),
        ("", "", False),
        ("https://", "", False),
        ("https://chat.example", None, False),
    ],
)
def test_same_host(origin: str | None, host: str | None, is_allowed: bool) -> None:
    assert Origins().allow(origin, host) is is_allowed


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("https://app.example", True),
        ("https://app.example:444", False),
        ("https://app.example.evil.example", False),
        ("http://app.example", False),
        ("https://sub.app.example", False),
        ("capacitor://localhost", True),
        ("null", False),
        ("*", False),
        ("https://chat.example", True),
    ],
)
def test_listed(origin: str, is_allowed: bool) -> None:
    origins = Origins(["https://app.example", "capacitor://localhost"])
    assert origins.allow(origin, "chat.example") is is_allowed


def test_any() -> None:
    assert Origins("*" for _ in range(1)).allow("https://evil.example", "chat.example")
    assert Origins(["null"]).allow("null", "chat.example")


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "app.example",
        "https://app.example/",
        "HTTPS://app.example",
        "https://",
        "**",
    ],
)
def test_what_is_no_origin(wrong: str) -> None:
    with pytest.raises(UsageError, match="no origin: '"):
        Origins([wrong])


def test_one_string_is_not_several_origins() -> None:
    with pytest.raises(UsageError, match="list or a tuple"):
        Origins("https://app.example")


def test_the_error_is_safe_to_log() -> None:
    error = OriginNotAllowed("https://x\r\n\x1b[31m" + "y" * 1_000)
    assert error.origin.startswith("https://x\\r\\n\\x1b[31m")
    assert len(error.origin) < 300
    assert str(error) == "origin not allowed"
