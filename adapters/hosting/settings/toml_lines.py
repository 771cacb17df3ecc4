"""Where the keys of a TOML document stand; the parser of the library forgets it."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Mapping

__all__ = ("KeyPath", "key_lines", "line_of")

KeyPath = tuple[str | int, ...]  # ("topics", 0, "pattern"): names, indexes of [[…]]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY_PART = re.compile(r"""[ \t]*([A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*')[ \t]*""")
# Three quotes end a text where no fourth follows: up to two may stand before them.
_VALUE_PART = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?!")'
    r"|'''.*?'''(?!')"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'"
    r"|#[^\n]*"
    r"""|[^"'#\[\]{}\n]+|[\[\]{}\n]""",
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) in which each table and key first stands.

    What stands inside a value (an inline table, an array) has no line of its own: ask
    ``line_of``.

    Args:
        text: a document that ``tomllib`` accepts.
    """
    newlines = [match.start() for match in re.finditer("\n", text)]
    lines: dict[KeyPath, int] = {}
    arrays: dict[KeyPath, int] = {}  # {array of tables: index of its last table}
    table: KeyPath = ()
    at = _end_of_blank(text, 0)
    while at < len(text):
        line = bisect_left(newlines, at) + 1
        brackets = 2 if text.startswith("[[", at) else int(text[at] == "[")
        parts, at = _read_key(text, at + brackets)
        if brackets:
            table = ()
            for part in parts[:-1]:
                table = _last_table(arrays, (*table, part))
                lines.setdefault(table, line)
            table = (*table, *parts[-1:])
            lines.setdefault(table, line)
            if brackets == 2:
                arrays[table] = arrays.get(table, -1) + 1
            table = _last_table(arrays, table)
            lines.setdefault(table, line)
        else:
            for count in range(1, len(parts) + 1):
                lines.setdefault((*table, *parts[:count]), line)
        at = _end_of_blank(text, _end_of_statement(text, at + brackets))
    return lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """Return the line of a key, or of the nearest thing around it that has one."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _last_table(arrays: Mapping[KeyPath, int], path: KeyPath) -> KeyPath:
    """Return what a name in a header means: of an array, its last table."""
    return (*path, arrays[path]) if path in arrays else path


def _read_key(text: str, at: int) -> tuple[tuple[str, ...], int]:
    """Return the parts of a dotted key and where it ends."""
    parts = []
    while found := _KEY_PART.match(text, at):  # pragma: no branch - a key has parts
        part, at = found[1], found.end()
        quoted = part[0] in "\"'"
        parts.append(tomllib.loads(f"key = {part}")["key"] if quoted else part)
        if not text.startswith(".", at):
            break
        at += 1
    return tuple(parts), at


def _end_of_statement(text: str, at: int) -> int:
    """Return where the line of a header or of a value ends that may be many lines."""
    depth = 0
    while found := _VALUE_PART.match(text, at):
        if found[0] == "\n" and depth <= 0:
            return at
        depth += (found[0] in "[{") - (found[0] in "]}")
        at = found.end()
    return len(text)


def _end_of_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    assert found is not None
    return found.end()
