"""Exceptions at public boundaries."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

__all__ = ("collapsing",)


@contextmanager
def collapsing() -> Generator[None, None, None]:
    """Let one failure come out bare; only several at once come out as a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, BaseExceptionGroup):
            raise
        raise error from error.__cause__ or error.__context__
