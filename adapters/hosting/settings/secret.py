"""Text that nobody is shown by accident."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ("HIDDEN", "Secret", "read_text")

HIDDEN = "***"


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A key or a password, which no message, log or traceback shows by itself.

    Attributes:
        text: what it is.
    """

    text: str

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"


def read_text(path: str) -> str:
    """Return what a file says.

    Raises:
        ValueError: it cannot be read, or is not UTF-8. The message does not name the
            file: the path may be a secret that was put into the wrong setting.
    """
    try:
        return Path(path).read_bytes().decode()
    except OSError as error:
        problem = error.strerror or type(error).__name__
        raise ValueError(f"the file cannot be read: {problem}") from error
    except UnicodeDecodeError as error:
        raise ValueError("the file is not UTF-8") from error
