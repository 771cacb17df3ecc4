"""What callers give, refused where it is of another kind than it must be. Sans-IO."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TypeVar

from broker.errors import UsageError
from broker.message import Position

__all__ = (
    "check_choice",
    "check_client",
    "check_kind",
    "check_number",
    "check_several",
    "check_start",
    "check_text",
    "check_user",
    "given",
)

T = TypeVar("T")


def given(name: str, value: T | None, kind: type[T]) -> T:
    """Return an option of that kind, made afresh if it was left out.

    Raises:
        UsageError: it is something else.
    """
    if value is None:
        return kind()
    if not isinstance(value, kind):
        wanted = kind.__name__
        raise UsageError(
            f"{name} must be {wanted}, not {_kind(value)}: write {name}={wanted}(…)"
        )
    return value


def check_choice(name: str, value: object, choices: type[Enum]) -> None:
    """Refuse what is no member of an enum, its members' values included.

    Raises:
        UsageError: names the members.
    """
    if not isinstance(value, choices):
        names = ", ".join(str(each) for each in choices)
        raise UsageError(f"{name} must be one of {names}, not {value!r}")


def check_number(name: str, value: object, *, whole: bool) -> float:
    """Return a number, a whole one where it must be.

    Raises:
        UsageError: says which.
    """
    if not isinstance(value, int if whole else int | float):
        what = "a whole number" if whole else "a number"
        raise UsageError(f"{name} must be {what}, not {value!r}")
    return value


def check_kind(name: str, value: object, kind: type) -> None:
    """Refuse what is of another kind.

    Raises:
        UsageError: says of which.
    """
    if not isinstance(value, kind):
        raise UsageError(f"{name} must be {kind.__name__}, not {_kind(value)}")


def check_several(name: str, value: object, kind: type) -> None:
    """Refuse one where several are wanted, and text, which is several letters.

    Raises:
        UsageError: says what to write.
    """
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise UsageError(
            f"{name} must be several {kind.__name__}, not {_kind(value)}: "
            "use a list or a tuple"
        )


def check_text(name: str, value: object) -> None:
    """Refuse what is no str.

    Raises:
        UsageError: says what it is.
    """
    check_kind(name, value, str)


def check_user(user: object) -> None:
    """Refuse a user that is not text, such as the number of a row; None is nobody.

    It would be found under no other name, and no client could read it.

    Raises:
        UsageError: says what to write.
    """
    if user is not None and not isinstance(user, str):
        raise UsageError(
            f"a user is text, not {_kind(user)}: write str(user.id), or whatever it is"
        )


def check_client(client: object) -> None:
    """Refuse the id of a client that is not text; None is no id.

    Raises:
        UsageError: says what to write.
    """
    if client is not None and not isinstance(client, str):
        raise UsageError(f"a client id is text, not {_kind(client)}: write str(…)")


def check_start(since: object, recent: int = 0) -> None:
    """Refuse what is no place to begin at.

    Raises:
        UsageError: says what it must be.
    """
    if since is not None and not isinstance(since, Position):
        raise UsageError(f"since must be a Position, not {_kind(since)}")
    check_number("recent", recent, whole=True)
    if recent < 0 or (recent and since is not None):
        raise UsageError("recent must be >= 0, and does not go with since")


def _kind(value: object) -> str:
    return type(value).__name__
