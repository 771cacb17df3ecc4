"""Settings of the server: defaults, files, the environment and flags in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from broker import Limits, TopicRules
from broker.protocol.rules import ProtocolTimes

from .building import Section, build, kind_of
from .hypercorn_file import check_hypercorn
from .keys import check_backplane, check_keys, read_secrets
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
    KEY_FIELDS,
    SECRET_FIELDS,
    AccessSettings,
    ApiSettings,
    ClientSettings,
    ServerSettings,
    Settings,
    SettingsError,
)
from .values import NO_LIMIT, convert, shown, toml

__all__ = ("Loaded", "load_settings")

DEFAULT = "default"
WITH_A_KEY = "default where there is a key for tokens"
NOTHING: Mapping[str, Any] = MappingProxyType({})
OF_TIMES = {each.name for each in fields(ProtocolTimes)}
# {setting: the other one that says the same}
TWINS = {
    **{key: f"{key}_file" for key in SECRET_FIELDS},
    **{f"{key}_file": key for key in SECRET_FIELDS},
}


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

    What is overruled is checked as well. Files of secrets are read, and keys tried.

    Args:
        hypercorn_file: of hypercorn itself: its ``bind``, ``worker_class`` and
            ``workers`` are read; the rest is checked, and certificates are tried.
        file: ``broker.toml``: a table for each section, and ``[[topics]]``.
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
        of_hypercorn = TomlFile(hypercorn_file)
        _collect(found, hypercorn_settings(of_hypercorn))
        check_hypercorn(of_hypercorn)
    if file is not None:
        own = TomlFile(file)
        _collect(found, own_settings(own))
        rules = [f"topics[{index}]" for index in range(len(own.data.get("topics", ())))]
    _collect(found, variables(environ))
    _collect(found, flag_settings(flags))
    read_secrets(found)
    check_backplane(found["server"])
    settings = Settings(
        server=ServerSettings(**found["server"].values),
        access=AccessSettings(**found["access"].values),
        client=_client(found),
        api=ApiSettings(**found["api"].values),
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
    here: dict[str, Given] = {}
    for given in layer:
        section = found.setdefault(given.section, Section())
        value = _checked(given)
        if given.key in TWINS:
            twin = here.get(TWINS[given.key])
            if twin is None:  # an earlier layer's is overruled by this one
                _forget(section, TWINS[given.key].rpartition(".")[2])
            elif value is not None and section.values[twin.field] is not None:
                problem = f"{given.name} and {twin.name} are both set: choose one"
                raise SettingsError(f"{given.source}: {problem}")
        section.values[given.field] = value
        section.sources[given.field] = given.source
        here[given.key] = given


def _forget(section: Section, field: str) -> None:
    section.values.pop(field, None)
    section.sources.pop(field, None)


def _client(found: Mapping[str, Section]) -> ClientSettings:
    section = found["client"]
    check_keys(section, found["api"])
    settings = ClientSettings(**section.values)
    times = {name: v for name, v in section.values.items() if name in OF_TIMES}
    # Which sees whether they go together.
    build(ProtocolTimes, "client", Section(times, section.sources))
    if "anonymous" not in section.values and settings.has_keys:
        section.sources["anonymous"] = WITH_A_KEY
        settings = msgspec.structs.replace(settings, anonymous=False)
    return settings


def _checked(given: Given) -> Any:
    """Return the value as the type of its setting."""
    kind = FIELDS[kind_of(given.section)][given.field]
    if given.key in KEY_FIELDS and given.value == "":
        problem = f"{given.name} is empty; write {NO_LIMIT} if there is to be none"
        raise SettingsError(f"{given.source}: {problem}")
    try:
        value = convert(given.value, kind, as_text=given.is_text)
    except ValueError as error:
        raise SettingsError(f"{given.source}: {given.name} {error}") from error
    fault_of = FAULTS.get(given.key)
    if fault_of is not None and value is not None:
        for item in value if isinstance(value, tuple) else (value,):
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
