"""The scanner finds the line of every key, whatever the values look like."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hosting.settings.toml_lines import KeyPath, key_lines, line_of


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", {}),
        ("# a = 1\n\n  # [b]", {}),
        ("\ta=1", {("a",): 1}),
        ("\r\na = 1\r\n[b]\r\nc = 2\r\n", {("a",): 2, ("b",): 3, ("b", "c"): 4}),
        ("a . 'b.c' . \"d\\u0065\" = 1", {("a",): 1, ("a", "b.c"): 1}),
        ("[a]\n[ a . b ] # c\n", {("a",): 1, ("a", "b"): 2}),
        ('["[x]"]\n"=" = 1\n"" = 2', {("[x]",): 1, ("[x]", "="): 2, ("[x]", ""): 3}),
        ("a.b = 1\na.c = 2", {("a",): 1, ("a", "b"): 1, ("a", "c"): 2}),
        (
            "[[a]]\n[[a]]\nb = 1\n[a.c]\nd = 1\n"
            "[[a.e]]\n[[a.e]]\nf = 1\n[[a]]\n[[a.e]]",
            {
                ("a",): 1,
                ("a", 0): 1,
                ("a", 1): 2,
                ("a", 1, "b"): 3,
                ("a", 1, "c"): 4,
                ("a", 1, "c", "d"): 5,
                ("a", 1, "e"): 6,
                ("a", 1, "e", 0): 6,
                ("a", 1, "e", 1): 7,
                ("a", 1, "e", 1, "f"): 8,
                ("a", 2): 9,
                ("a", 2, "e"): 10,
                ("a", 2, "e", 0): 10,
            },
        ),
        ('a = [\n  1, # ]\n  \'[\', "\\"]",\n]\nb = 1', {("a",): 1, ("b",): 5}),
        ('a = """\nb = 1\n\\"""\n""""\nc = 1', {("a",): 1, ("c",): 5}),
        ("a = '''\n[b]\n'''''\nc = 1", {("a",): 1, ("c",): 4}),
        ('a = ""\nb = """"""\nc = \'\'', {("a",): 1, ("b",): 2, ("c",): 3}),
        ("a = {b = [\n], c = '{'}\nd = 1", {("a",): 1, ("d",): 3}),
    ],
)
def test_lines(text: str, lines: dict[KeyPath, int]) -> None:
    tomllib.loads(text)
    found = key_lines(text)
    assert {path: found[path] for path in lines} == lines
    assert {path[0] for path in found} == {path[0] for path in lines}


def test_what_is_inside_a_value_stands_where_its_key_does() -> None:
    lines = key_lines("\na = {b = 1}\n[[c]]\nd = [{e = 1}]")
    assert line_of(lines, ("a", "b")) == 2
    assert line_of(lines, ("c", 0, "d", 0, "e")) == 4
    assert line_of(lines, ("unknown", "x")) == 1


# Texts that look like something else.
BARE = st.text("abz019_-", min_size=1, max_size=4)
TEXTS = st.text("a=[]{}#'\"\\.\n ", max_size=8)
ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}


def escaped(text: str) -> str:
    return "".join(ESCAPED.get(char, char) for char in text)


def literal(text: str) -> str:
    return text.replace("'", "").replace("\n", "")


STRINGS = st.one_of(
    TEXTS.map(lambda text: f'"{escaped(text)}"'),
    TEXTS.map(lambda text: f"'{literal(text)}'"),
    # A newline stays one here, and so do one or two quotes at the end.
    st.tuples(TEXTS, st.sampled_from(["", '"', '""'])).map(
        lambda pair: (
            f'"""{escaped(pair[0]).replace(chr(92) + "n", chr(10))}{pair[1]}"""'
        )
    ),
    st.tuples(TEXTS, st.sampled_from(["", "'", "''"])).map(
        lambda pair: f"'''{pair[0].replace(chr(39), '')}{pair[1]}'''"
    ),
)
SCALARS = STRINGS | st.sampled_from(
    ["1", "-2.5e3", "true", "1979-05-27 07:32:00", "inf"]
)
GAPS = st.sampled_from(["", " ", "\n", " # ]}\n", "\n\n  # '''\n", "\r\n"])


@st.composite
def arrays(draw: st.DrawFn, items: st.SearchStrategy[str]) -> str:
    parts = draw(st.lists(st.tuples(GAPS, items, GAPS), max_size=3))
    return f"[{','.join(''.join(part) for part in parts)}{draw(GAPS)}]"


def inline_tables(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(items, max_size=2).map(
        lambda values: (
            f"{{{', '.join(f'k{i} = {value}' for i, value in enumerate(values))}}}"
        )
    )


VALUES = st.recursive(
    SCALARS, lambda items: arrays(items) | inline_tables(items), max_leaves=6
)
NAMES = st.sampled_from([0, 1, 2])  # bare, basic, literal
NOISE = st.sampled_from(["", "\n", "# a = 1\n", "  \n\t# [[a]]\n", "\r\n"])


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[KeyPath, int]]:
    """A document, and the line of each of its keys; no name comes twice."""
    text = ""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    written: dict[KeyPath, str] = {}  # {table at the top: its name as it is written}
    counts: dict[KeyPath, int] = {}  # {array of tables at the top: how many}
    number = 0

    def name() -> tuple[str, str]:
        """Return a fresh name, and how it is written."""
        nonlocal number
        number += 1
        quoting = draw(NAMES)
        if quoting == 0:
            plain = f"n{number}{draw(BARE)}"
            return plain, plain
        plain = f"{number}{draw(TEXTS)}"
        if quoting == 1:
            return plain, f'"{escaped(plain)}"'
        return literal(plain), f"'{literal(plain)}'"

    for _ in range(draw(st.integers(0, 8))):
        text += draw(NOISE)
        line = text.count("\n") + 1
        kind = draw(st.sampled_from(["key", "dotted", "table", "array", "again"]))
        if kind in ("key", "dotted"):
            names = [name() for _ in range(1 if kind == "key" else 2)]
            for count in range(1, len(names) + 1):
                lines[(*table, *(plain for plain, _ in names[:count]))] = line
            dotted = draw(st.sampled_from([".", " . "])).join(part for _, part in names)
            text += f"{dotted} = {draw(VALUES)}"
        elif kind == "again" and counts:
            array = draw(st.sampled_from(sorted(counts, key=str)))
            table = (*array, counts[array])
            counts[array] += 1
            lines[table] = line
            text += f"[[{written[array]}]]"
        else:
            plain, part = name()
            parent = draw(st.sampled_from([(), *written]))
            header = f"{written[parent]}.{part}" if parent else part
            # A name of an array means its last table.
            last = (counts[parent] - 1,) if parent in counts else ()
            table = (*parent, *last, plain)
            lines[table] = line
            if parent == ():
                written[table] = header
            if kind == "array":
                text += f"[[ {header} ]]"
                if parent == ():
                    counts[table] = 1
                table = (*table, 0)
                lines[table] = line
            else:
                text += f"[{header}]"
        text += draw(st.sampled_from(["\n", " # = '''\n", "\r\n"]))
    return text, lines


def paths(value: Any, path: KeyPath, depth: dict[KeyPath, int]) -> set[KeyPath]:
    """Return the paths of a parsed document, as far down as lines are known."""
    found = {path} & set(depth)
    if path and path not in depth:
        return found
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        found |= paths(item, (*path, key), depth)
    return found


@given(documents())
def test_lines_of_any_document(document: tuple[str, dict[KeyPath, int]]) -> None:
    text, lines = document
    # The document is what the test thinks it is.
    assert paths(tomllib.loads(text), (), lines) == set(lines)
    assert key_lines(text) == lines
