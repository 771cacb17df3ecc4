"""One value of a setting: from what was given to its type, and back to TOML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import Enum
from math import isfinite
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import inspect

from .secret import HIDDEN, Secret

__all__ = ("NO_LIMIT", "convert", "expected", "shown", "toml")

NO_LIMIT = "none"  # stands for None, which TOML does not have
SHOWN_CHARS = 60  # of a value that is refused


def convert(given: object, kind: Any, *, as_text: bool = False) -> Any:
    """Return a value as the type that a setting has.

    Args:
        given: from TOML, or from code.
        kind: the type; with None in it, ``"none"`` stands for that.
        as_text: ``given`` is the text of a variable: numbers are parsed, lists split at
            commas, and empty is None too.

    Raises:
        ValueError: it does not fit; says what would, and what was given, unless that
            may be a secret.
    """
    bare = _without_none(kind)
    if bare is not kind and (given == NO_LIMIT or (as_text and given == "")):
        return None
    if bare is Secret:
        if not isinstance(given, str):
            raise ValueError(f"must be {expected(kind)}")
        return Secret(given)
    parsed: object = given
    if as_text and isinstance(given, str) and _is_list(bare):
        parsed = [part.strip() for part in given.split(",")] if given else []
    problem = f"must be {expected(kind, as_text=as_text)}, not {shown(given)}"
    try:
        value = msgspec.convert(parsed, bare, strict=not as_text)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ValueError(problem) from error
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(problem)
    if isinstance(value, int) and value.bit_length() >= 64:
        raise ValueError(problem)  # as TOML: 64 bits
    return value


def expected(kind: Any, *, as_text: bool = False) -> str:
    """Return what a setting of this type may be, in words."""
    bare = _without_none(kind)
    if get_origin(bare) is Literal:  # msgspec sorts them
        words = _one_of(get_args(bare))
    else:
        words = _in_words(inspect.type_info(bare), as_text=as_text)
    return words if bare is kind else f'{words}, or "{NO_LIMIT}"'


def toml(value: object) -> str:
    """Return a setting's value as TOML."""
    if value is None:
        return _text(NO_LIMIT)
    if isinstance(value, Secret):
        return _text(HIDDEN)
    if isinstance(value, Enum):
        return toml(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{…}"  # only in messages: no setting is a table
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, int) and value.bit_length() > 64:
        return hex(value)  # only in messages: str refuses thousands of digits
    return _text(value) if isinstance(value, str) else str(value)


def shown(given: object) -> str:
    """Return what was given, fit for a message."""
    if isinstance(given, Mapping):
        return "a table"
    text = toml(given)
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"


def _text(value: str) -> str:
    # JSON's escapes are TOML's, but for one character that only TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _without_none(kind: Any) -> Any:
    """Return the type without None; the very type itself if it has no None."""
    if get_origin(kind) not in (Union, UnionType) or NoneType not in get_args(kind):
        return kind
    rest = [each for each in get_args(kind) if each is not NoneType]
    return Union[tuple(rest)]  # noqa: UP007 - the types are not known here


def _is_list(kind: Any) -> bool:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_origin(kind) in (tuple, list)


def _in_words(kind: inspect.Type, *, as_text: bool) -> str:
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"an integer{_bounds(kind)}"
        case inspect.FloatType():
            return f"a number{_bounds(kind)}"
        case inspect.StrType() | inspect.DataclassType():  # the latter is a secret
            return "a string"
        case inspect.EnumType(cls=cls):
            return _one_of([each.value for each in cls])
        case (
            inspect.VarTupleType(min_length=least) | inspect.ListType(min_length=least)
        ):
            words = "strings with commas between" if as_text else "an array of strings"
            return f"{words} (at least {least})" if least else words
        case _:  # pragma: no cover - a type that no setting has yet
            return "of another type"


def _one_of(values: Iterable[Any]) -> str:
    return f"one of {', '.join(map(toml, values))}"


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    bounds = ((">", kind.gt), (">=", kind.ge), ("<=", kind.le), ("<", kind.lt))
    given = [f" {sign} {bound:.0f}" for sign, bound in bounds if bound is not None]
    return " and".join(given)
