"""What files, variables and flags say about settings, each with its source."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .schema import FIELDS, HYPERCORN_KEYS, SECRET_FIELDS, SettingsError
from .toml_lines import KeyPath, key_lines, line_of
from .values import shown

__all__ = (
    "Given",
    "TomlFile",
    "elsewhere",
    "flag_settings",
    "hypercorn_settings",
    "nearest",
    "own_settings",
    "variables",
)

PREFIX = "BROKER_"
_POSITION = re.compile(r" \(at (?:line (\d+), (column \d+)|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Given:
    """One setting as it was given.

    Attributes:
        section: ``server``, ``access``, ``limits`` or ``topics[0]``.
        field: a name that the section has.
        value: not checked yet.
        source: file and line, variable or flag.
        name: what the source calls it.
        is_text: the value is text that stands for the value.
    """

    section: str
    field: str
    value: object
    source: str
    name: str
    is_text: bool = False

    @property
    def key(self) -> str:
        """The setting's full name."""
        return f"{self.section}.{self.field}"


class TomlFile:
    """A TOML file that knows the line of each key.

    Raises:
        SettingsError: it cannot be read, or is no TOML.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        try:
            text = path.read_bytes().decode()
        except OSError as error:
            problem = error.strerror or type(error).__name__
            raise SettingsError(f"{path}: cannot be read: {problem}") from error
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise SettingsError(f"{path} line {line}: is not UTF-8") from error
        try:
            self.data: dict[str, Any] = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            problem, place = str(error), str(path)
            if found := _POSITION.search(problem):
                last = text.rstrip().count("\n") + 1
                place = f"{path} line {found[1] or last}"
                problem = f"{problem[: found.start()]} ({found[2] or 'end of file'})"
            raise SettingsError(f"{place}: is not TOML: {problem}") from error
        self._lines: Mapping[KeyPath, int] = key_lines(text)

    def source(self, *path: str | int) -> str:
        """Return file and line of a key."""
        return f"{self.name} line {line_of(self._lines, path)}"


def hypercorn_settings(file: TomlFile) -> Iterator[Given]:
    """Yield the few settings of hypercorn's file that are ours as well."""
    for name, field in HYPERCORN_KEYS.items():
        if name in file.data:
            value = file.data[name]
            if field == "bind" and isinstance(value, str):
                value = [value]  # hypercorn takes both
            yield Given("server", field, value, file.source(name), name)


def own_settings(file: TomlFile) -> Iterator[Given]:
    """Yield what ``broker.toml`` says.

    Raises:
        SettingsError: an unknown key or section, or no table where one should be.
    """
    for section, content in file.data.items():
        source = file.source(section)
        if section not in FIELDS:
            raise SettingsError(f"{source}: {_unknown_section(section, content)}")
        if section != "topics":
            yield from _table(file, (section,), section, content)
        elif isinstance(content, list):
            for index, rules in enumerate(content):
                yield from _table(file, (section, index), f"topics[{index}]", rules)
        else:
            raise SettingsError(
                f"{source}: topics must be an array of tables, [[topics]], "
                f"not {shown(content)}"
            )


def variables(environ: Mapping[str, str]) -> Iterator[Given]:
    """Yield what the environment says.

    Raises:
        SettingsError: a variable that begins like ours and is none.
    """
    known = {
        f"{PREFIX}{section}_{field}".upper(): (section, field)
        for section, fields in FIELDS.items()
        if section != "topics"
        for field in fields
    }
    ours = tuple(f"{PREFIX}{section}_".upper() for section in FIELDS)
    for name in sorted(environ):
        if name in known:
            section, field = known[name]
            key, text = f"{section}.{field}", environ[name]
            # A secret is what it is: whoever signs with it has those spaces as well.
            value = text if key in SECRET_FIELDS else text.strip()
            yield Given(section, field, value, name, key, is_text=True)
        elif name.startswith(f"{PREFIX}TOPICS_"):
            raise SettingsError(f"{name}: topics can only be set in a file")
        elif name.startswith(ours):
            raise SettingsError(f"{name}: unknown variable; {nearest(name, known)}")


def flag_settings(flags: Mapping[str, object]) -> Iterator[Given]:
    """Yield what the command line says; None is a flag that was not given.

    Raises:
        SettingsError: an unknown key.
    """
    known = [
        f"{section}.{field}"
        for section, fields in FIELDS.items()
        if section != "topics"
        for field in fields
    ]
    for key, value in flags.items():
        words = key.removesuffix("_s") if key.startswith("server.") else key
        name = "--" + words.removeprefix("server.").replace(".", "-").replace("_", "-")
        if key not in known:
            problem = f"unknown setting {shown(key)}; {nearest(key, known)}"
            raise SettingsError(f"{name}: {problem}")
        if value is not None:
            section, field = key.split(".")
            is_text = isinstance(value, str)
            yield Given(section, field, value, name, key, is_text=is_text)


def _table(
    file: TomlFile, path: KeyPath, section: str, content: object
) -> Iterator[Given]:
    if not isinstance(content, dict):
        problem = f"{section} must be a table"
        if not any(key.startswith(f"{section}.") for key in SECRET_FIELDS):
            problem += f", not {shown(content)}"
        raise SettingsError(f"{file.source(*path)}: {problem}")
    known = FIELDS[str(path[0])]
    for field, value in content.items():
        source = file.source(*path, field)
        if field not in known:
            problem = f"unknown key {shown(field)} in {section}"
            hint = elsewhere(field, str(path[0])) or nearest(field, known)
            raise SettingsError(f"{source}: {problem}; {hint}")
        yield Given(section, field, value, source, f"{section}.{field}")


def _unknown_section(name: str, content: object) -> str:
    items = content if isinstance(content, list) else [content]
    if items and all(isinstance(each, dict) for each in items):
        return f"unknown section {shown(name)}; {nearest(name, FIELDS)}"
    sections = {field: name for name, fields in FIELDS.items() for field in fields}
    near = get_close_matches(name, sections, 1)
    if near and near[0] != name:
        hint = f"did you mean {sections[near[0]]}.{near[0]}?"
    else:
        hint = elsewhere(name, "") or f"known sections are {', '.join(FIELDS)}"
    return f"unknown key {shown(name)} outside of a section; {hint}"


def elsewhere(field: str, section: str) -> str:
    """Return a hint for a key that another section has, or nothing."""
    for other, fields in FIELDS.items():
        if field in fields and other != section:
            header = f"[[{other}]]" if other == "topics" else f"[{other}]"
            return f"it belongs in {header}"
    return ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for a name that there is not."""
    names = list(known)
    near = get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
