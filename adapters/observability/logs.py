"""Logs of the standalone server: one record is one line, whatever clients sent."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, TextIO

try:
    from pythonjsonlogger.json import JsonFormatter
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "adapters.observability.logs needs python-json-logger: "
        "pip install 'asgi-broker[server]'"
    ) from error

if TYPE_CHECKING:
    from hypercorn.config import Config

__all__ = ("RedactTokens", "configure_logging", "use_root_logger")

MAX_CHARS = 200  # of an extra value (guess); a reason has at most 123 bytes
ACCESS_LOG = "hypercorn.access"
ERROR_LOG = "hypercorn.error"

# What a record always has, so that what else it has was passed as `extra`. Python 3.12
# adds taskName, which is asyncio's and says nothing about the message.
STANDARD = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}

# A query parameter whose name's last word is one of these, and its value; also where
# the query is itself quoted into another (`?next=%2Fws%3Ftoken%3D1`). `cf_connect` is
# a connect command of the Centrifuge protocol, which has the token.
SECRET = re.compile(
    r"""((?:(?<![\w-])|(?<=%3F)|(?<=%26))(?:[\w-]*[_-])?"""
    r"""(?:token|key|apikey|password|secret|jwt|cf_connect)(?:=|%3D))[^& "]*""",
    re.IGNORECASE,
)


def configure_logging(
    *,
    format: Literal["console", "json"],  # noqa: A002 # the command's option
    level: str,
    stream: TextIO | None = None,
) -> None:
    """Send all log records to one stream; called again, it starts afresh.

    Other handlers of the root logger stay. Secrets in the queries of hypercorn's access
    log are replaced, see ``RedactTokens``. In each process of a server call it once.

    Args:
        format: ``console`` for people, ``json`` for machines: an object per line.
        level: name of the lowest level that is shown, in any case.
        stream: None for standard error.

    Raises:
        ValueError: no such format or level; nothing was changed.
    """
    formatters = {"console": ConsoleFormatter, "json": JsonLineFormatter}
    levels = logging.getLevelNamesMapping()
    if format not in formatters:
        raise ValueError(f"format must be one of {', '.join(formatters)}")
    if level.upper() not in levels:
        raise ValueError(f"level must be one of {', '.join(levels).lower()}")
    handler = RootHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(formatters[format]())
    root = logging.getLogger()
    for old in [known for known in root.handlers if isinstance(known, RootHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # It has a line for each connection that fails; so has the backplane, and a better.
    logging.getLogger("coredis").setLevel(max(logging.WARNING, root.level))
    access = logging.getLogger(ACCESS_LOG)
    if not any(isinstance(known, RedactTokens) for known in access.filters):
        access.addFilter(RedactTokens())


def use_root_logger(config: Config, *, access: bool = False) -> None:
    """Have hypercorn log through the root logger's handlers instead of its own.

    Args:
        config: changed in place. ``loglevel`` no longer counts: loggers are not asked.
        access: log each request as well.
    """
    config.errorlog = logging.getLogger(ERROR_LOG)
    config.accesslog = logging.getLogger(ACCESS_LOG) if access else None


class RootHandler(logging.StreamHandler[TextIO]):
    """The handler that ``configure_logging`` has added, and may take away."""


class RedactTokens(logging.Filter):
    """Replaces secrets in URLs: ``?token=abc`` becomes ``?token=…``.

    Browsers cannot send headers with a WebSocket handshake, so tokens travel in
    queries. Names whose last word is token, key, apikey, password, secret or jwt are
    taken for secrets (``access_token``, ``X-API-Key``, not ``monkey``).
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Put the redacted text in the place of message and arguments."""
        try:
            text = record.getMessage()
        except (KeyError, TypeError, ValueError) as error:
            # Left as it is, logging itself would print the arguments.
            text = f"log message cannot be formatted: {type(error).__name__}"
        record.msg, record.args = SECRET.sub(r"\1…", text), None
        return True


class ConsoleFormatter(logging.Formatter):
    """``time level logger message key=value …``, then an indented traceback, if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line or lines of a record."""
        parts = [
            timestamp(record),
            record.levelname,
            record.name,
            record.getMessage(),
            *(f"{name}={quoted(value)}" for name, value in extras(record).items()),
        ]
        lines = [escaped(" ".join(parts))]
        if record.exc_info:
            lines += self.formatException(record.exc_info).split("\n")
        if record.stack_info:
            lines += self.formatStack(record.stack_info).split("\n")
        return "\n  ".join([lines[0], *map(escaped, lines[1:])])


class JsonLineFormatter(JsonFormatter):
    """A JSON object per record: in ASCII, so that any stream can take it."""

    def add_fields(
        self,
        log_data: dict[str, Any],
        record: logging.LogRecord,
        message_dict: dict[str, Any],
    ) -> None:
        """Fill in the fields: ours first, and no extra one stands in for them."""
        log_data["timestamp"] = timestamp(record)
        log_data["level"] = record.levelname
        log_data["logger"] = escaped(record.name)
        log_data["message"] = escaped(record.message)
        log_data["pid"] = record.process
        for name, ours in (("exc_info", "exception"), ("stack_info", "stack")):
            if name in message_dict:
                lines = str(message_dict.pop(name)).split("\n")
                log_data[ours] = "\n".join(map(escaped, lines))
        for name, value in {**extras(record), **message_dict}.items():
            log_data.setdefault(escaped(name), plain(value))


def timestamp(record: logging.LogRecord) -> str:
    """Return when the record was made: ISO 8601, UTC, milliseconds."""
    made = datetime.fromtimestamp(record.created, UTC)
    return made.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was passed as ``extra``."""
    return {
        name: value
        for name, value in record.__dict__.items()
        if name not in STANDARD and not name.startswith("_")
    }


def escaped(text: str) -> str:
    """Return the text with all that is not printable as escape sequences.

    That is line ends and other control characters, what changes the direction of
    writing, and lone surrogates, which no stream could take.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in text
    )


def plain(value: Any) -> Any:
    """Return an extra value as JSON can carry it: at most 200 characters of text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    text = escaped(str(value)[: MAX_CHARS + 1])
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1] + "…"


def quoted(value: Any) -> str:
    """Return an extra value for ``key=value``; in quotes if it could look like more."""
    text = str(plain(value))
    if re.fullmatch(r"[^\s\"'=\\]+", text):
        return text
    return json.dumps(text, ensure_ascii=False)
