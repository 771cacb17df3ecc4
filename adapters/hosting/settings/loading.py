"""Settings of the server: defaults, files, the environment and flags in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from broker import Limits, TopicRules

from .building import Section, build, kind_of
from .layers import (
    Given,
    TomlFile,
    flag_settings,
    hypercorn_settings,
    own_settings,
    variables,
)
from .schema import (
    FAULTS,
    FIELDS,
    AccessSettings,
    ServerSettings,
    Settings,
    SettingsError,
)
from .values import convert, shown, toml

__all__ = ("Loaded", "load_settings")

DEFAULT = "default"
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each of them comes from.

    Attributes:
        settings: checked.
        sources: {key: file and line, variable, flag or ``default``}; the rules of
            topics have keys such as ``topics[0].pattern``.
    """

    settings: Settings
    sources: Mapping[str, str]

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (key, value as TOML, source) of every setting, always in one order."""
        return [
            (key, toml(value), self.sources[key])
            for key, value in _effective(self.settings)
        ]


def load_settings(
    *,
    file: Path | None = None,
    hypercorn_file: Path | None = None,
    environ: Mapping[str, str] = NOTHING,
    flags: Mapping[str, object] = NOTHING,
) -> Loaded:
    """Return the settings that all sources make together; the later ones win.

    What is overruled is checked as well.

    Args:
        hypercorn_file: of hypercorn itself: its ``bind``, ``worker_class`` and
            ``workers``; the rest is not looked at.
        file: ``broker.toml``: ``[server]``, ``[access]``, ``[limits]``, ``[[topics]]``.
        environ: ``BROKER_<SECTION>_<FIELD>``; lists with commas, ``none`` or empty for
            None. Other variables are not looked at.
        flags: {key: value}, as in ``{"server.bind": ("127.0.0.1:80",)}``; None for a
            flag that was not given, text as in a variable.

    Raises:
        SettingsError: one of them cannot be read or understood, or names a setting
            that there is not, or a value that does not fit.
    """
    found = {name: Section() for name in FIELDS if name != "topics"}
    rules: list[str] = []
    if hypercorn_file is not None:
        _collect(found, hypercorn_settings(TomlFile(hypercorn_file)))
    if file is not None:
        own = TomlFile(file)
        _collect(found, own_settings(own))
        rules = [f"topics[{index}]" for index in range(len(own.data.get("topics", ())))]
    _collect(found, variables(environ))
    _collect(found, flag_settings(flags))
    settings = Settings(
        server=ServerSettings(**found["server"].values),
        access=AccessSettings(**found["access"].values),
        limits=build(Limits, "limits", found["limits"]),
        topics=tuple(
            build(TopicRules, name, found.setdefault(name, Section())) for name in rules
        ),
    )
    sources = {}
    for key, _ in _effective(settings):
        section, _, name = key.rpartition(".")
        sources[key] = found[section].sources.get(name, DEFAULT)
    return Loaded(settings, MappingProxyType(sources))


def _collect(found: dict[str, Section], layer: Iterator[Given]) -> None:
    for given in layer:
        section = found.setdefault(given.section, Section())
        section.values[given.field] = _checked(given)
        section.sources[given.field] = given.source


def _checked(given: Given) -> Any:
    """Return the value as the type of its setting."""
    kind = FIELDS[kind_of(given.section)][given.field]
    try:
        value = convert(given.value, kind, as_text=given.is_text)
    except ValueError as error:
        raise SettingsError(f"{given.source}: {given.name} {error}") from error
    fault_of = FAULTS.get(given.key)
    if fault_of is not None:
        for item in value:
            if fault := fault_of(item):
                problem = f"{given.name}: {shown(item)} {fault}"
                raise SettingsError(f"{given.source}: {problem}")
    return value


def _effective(settings: Settings) -> Iterator[tuple[str, Any]]:
    """Yield key and value of every setting, in the order of their definition."""
    sections: dict[str, object] = {
        name: getattr(settings, name) for name in FIELDS if name != "topics"
    }
    for index, rules in enumerate(settings.topics):
        sections[f"topics[{index}]"] = rules
    for name, section in sections.items():
        for each in FIELDS[kind_of(name)]:
            yield f"{name}.{each}", getattr(section, each)
