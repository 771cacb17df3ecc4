"""The broker's own settings from what was given, and who is to blame if they fail."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from broker import InvalidTopic, UsageError

from .schema import FIELDS, SettingsError

__all__ = ("Section", "build", "kind_of")

T = TypeVar("T")


@dataclass(slots=True)
class Section:
    """What was given of one section.

    Attributes:
        values: {field: value}, each of the right type.
        sources: {field: where it was set}.
    """

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)


def build(make: Callable[..., T], name: str, section: Section) -> T:
    """Return one of the broker's own settings, which check themselves.

    Raises:
        SettingsError: they do not go together; says which, and where they were set.
    """
    try:
        return make(**section.values)
    except UsageError as error:
        blamed = _blamed(make, section.values, error)
        text = str(error).removeprefix("Limits.").removeprefix("ProtocolTimes.")
        if text.startswith(tuple(FIELDS[kind_of(name)])):
            text = f"{name}.{text}"
        if len(blamed) > 1:
            places = [f"{section.sources[each]} ({name}.{each})" for each in blamed]
            raise SettingsError(f"{', '.join(places)}: {text}") from error
        key = f"{name}.{blamed[0]}"
        if not text.startswith(f"{key} "):
            text = f"{key}: {text}"
        raise SettingsError(f"{section.sources[blamed[0]]}: {text}") from error


def _blamed(
    make: Callable[..., object], values: Mapping[str, Any], error: UsageError
) -> list[str]:
    """Return which of the given fields an error is about.

    It names them, unless it quotes what was given, which may say anything; then it is
    the one that fails on its own as well.
    """
    words = set(re.findall(r"\w+", str(error)))
    named = [each for each in values if each in words]
    if named and not isinstance(error, InvalidTopic):
        return named
    alone = []
    for each, value in values.items():
        try:
            make(**{each: value})
        except UsageError:
            alone.append(each)
    return alone or list(values)


def kind_of(section: str) -> str:
    """Return ``topics`` for ``topics[0]``, and others as they are."""
    return section.partition("[")[0]
