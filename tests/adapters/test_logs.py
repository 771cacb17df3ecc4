"""One record is one line, whatever is in it."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from os import getpid
from typing import Any, Literal

import anyio
import pytest
from hypercorn.config import Config
from hypercorn.logging import AccessLogAtoms

from adapters.observability.logs import (
    RedactTokens,
    configure_logging,
    use_root_logger,
)
from broker import Broker
from tests.runtime.helpers import LONG_S, connected

Format = Literal["console", "json"]
FORMATS: list[Format] = ["console", "json"]

# Each with what would otherwise become of a line, or of what a terminal shows.
HOSTILE = {
    "line ends": "a\nb\rc\r\nd",
    "odd line ends": "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g",
    "terminal": "\x1b[2J\x1b]0;title\x07\x08\x9b31m\x7f",
    "null": "a\0b",
    "direction": "\u202egnp.exe\u2066",
    "surrogates": "\ud800a\udfff",
    "long": "x" * 10_000,
    "long and hostile": "\U000e0001\n" * 5_000,
    "a record": "\n2026-01-01T00:00:00.000Z CRITICAL broker fake",
    "fields": 'x" user=root code="1000',
    "backslash": '\\" user=root',
    "json": '"}\n{"level":"CRITICAL"}',
}
hostile = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
both_formats = pytest.mark.parametrize("style", FORMATS)


@pytest.fixture(autouse=True)
def restored_loggers() -> Iterator[None]:
    """Leave the process' loggers as they were."""
    loggers = [
        logging.getLogger(name)
        for name in (None, "hypercorn.access", "hypercorn.error")
    ]
    before = [
        (logger, logger.level, logger.handlers[:], logger.filters[:])
        for logger in loggers
    ]
    yield
    for logger, level, handlers, filters in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.filters[:] = filters


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO(newline="")


logger = logging.getLogger("test.logs")


def only_line(stream: io.StringIO) -> str:
    """Return the one line that was written, as every reader would split it."""
    text = stream.getvalue()
    assert text.endswith("\n")
    [line] = text.splitlines()
    assert line.isprintable()
    line.encode()
    return line


def only_object(stream: io.StringIO) -> dict[str, Any]:
    found = json.loads(only_line(stream), parse_constant=pytest.fail)
    assert isinstance(found, dict)
    return found


def test_console_line(stream: io.StringIO) -> None:
    configure_logging(format="console", level="INFO", stream=stream)
    before = datetime.now(UTC)
    logger.info("it is %d", 7, extra={"code": 1000, "user": "Zoë", "text": "a b"})
    found = re.fullmatch(
        r'(\S+Z) INFO test\.logs it is 7 code=1000 user=Zoë text="a b"',
        only_line(stream),
    )
    assert found is not None
    assert abs((datetime.fromisoformat(found[1]) - before).total_seconds()) < 60


def test_json_line(stream: io.StringIO) -> None:
    configure_logging(format="json", level="INFO", stream=stream)
    before = datetime.now(UTC)
    given = {"code": 1000, "user": "Zoë", "ratio": 0.5, "no": None, "yes": True}
    logger.warning("it is %d", 7, extra=given)
    found = only_object(stream)
    made = datetime.fromisoformat(found.pop("timestamp"))
    assert abs((made - before).total_seconds()) < 60
    assert found == given | {
        "level": "WARNING",
        "logger": "test.logs",
        "message": "it is 7",
        "pid": getpid(),
    }


def test_json_is_valid_on_a_stream_that_is_not_utf_8() -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, "ascii", "backslashreplace")
    configure_logging(format="json", level="INFO", stream=stream)
    logger.info("Zoë 🎉", extra={"user": "Zoë 🎉"})
    found = json.loads(written.getvalue())
    assert found["message"] == found["user"] == "Zoë 🎉"


@hostile
@both_formats
def test_hostile_message_is_one_line(
    text: str, style: Format, stream: io.StringIO
) -> None:
    configure_logging(format=style, level="INFO", stream=stream)
    logger.info("said %s", text)
    assert only_line(stream)
    if style == "json":
        found = only_object(stream)
        assert found.keys() == {"timestamp", "level", "logger", "message", "pid"}
        assert found["level"] == "INFO"
        assert found["message"].isprintable()


@hostile
@both_formats
def test_hostile_value_is_one_short_field(
    text: str, style: Format, stream: io.StringIO
) -> None:
    configure_logging(format=style, level="INFO", stream=stream)
    logger.info("ended", extra={"reason": text, "code": 1000})
    if style == "json":
        found = only_object(stream)
        assert found["code"] == 1000
        reason = found["reason"]
    else:
        head = r"\S+Z INFO test\.logs ended reason="
        field = re.fullmatch(
            head + r'("(?:[^"\\]|\\["\\])*"|[^\s"=\\]+) code=1000', only_line(stream)
        )
        assert field is not None, stream.getvalue()
        reason = json.loads(field[1]) if field[1].startswith('"') else field[1]
    assert reason.isprintable()
    assert len(reason) <= 200
    assert reason.endswith("…") is (len(text) > 200)
    if text.isprintable() and len(text) <= 200:
        assert reason == text


@pytest.mark.parametrize("size", [200, 201])
def test_values_are_cut_at_200_characters(size: int, stream: io.StringIO) -> None:
    configure_logging(format="json", level="INFO", stream=stream)
    logger.info("ended", extra={"reason": "ä" * size})
    expected = "ä" * 200 if size == 200 else "ä" * 199 + "…"
    assert only_object(stream)["reason"] == expected


@both_formats
def test_odd_values(style: Format, stream: io.StringIO) -> None:
    """Objects that JSON does not know, and numbers that it does not have."""
    configure_logging(format=style, level="INFO", stream=stream)
    odd = {
        "nan": float("nan"),
        "inf": float("inf"),
        "bytes": b"\n",
        "nested": {"a": ["\n"]},
        "empty": "",
        "a\nb": 1,
    }
    logger.info("odd", extra=odd)
    if style == "json":
        found = only_object(stream)
        assert (found["nan"], found["inf"]) == ("nan", "inf")
        assert found["nested"] == "{'a': ['\\n']}"
        assert found["a\\nb"] == 1
    else:
        line = only_line(stream)
        assert " nan=nan inf=inf bytes=\"b'\\\\n'\" nested=" in line
        assert line.endswith(' empty="" a\\nb=1')


def test_extra_fields_do_not_stand_in_for_ours(stream: io.StringIO) -> None:
    configure_logging(format="json", level="INFO", stream=stream)
    ours = ("timestamp", "level", "logger", "pid")
    logger.info("real", extra=dict.fromkeys(ours, "fake"))
    logger.info({"level": "fake", "message": "fake", "count": 1})
    for line in stream.getvalue().splitlines():
        assert "fake" not in line
        assert json.loads(line)["level"] == "INFO"
    assert json.loads(line)["count"] == 1


@both_formats
def test_traceback(style: Format, stream: io.StringIO) -> None:
    configure_logging(format=style, level="INFO", stream=stream)
    try:
        raise ValueError("a\nFAKE\r\x1b[2J\ud800\u2028b")  # noqa: TRY301 # its text
    except ValueError:
        logger.exception("it\nfailed", stack_info=True)
    text = r"FAKE\r\x1b[2J\ud800\u2028b"
    if style == "json":
        found = only_object(stream)
        assert found["message"] == r"it\nfailed"
        assert found["exception"].splitlines()[-2:] == ["ValueError: a", text]
        assert found["stack"].startswith("Stack (most recent call last):\n")
    else:
        first, *rest = stream.getvalue().rstrip("\n").splitlines()
        assert first.endswith(r" ERROR test.logs it\nfailed")
        assert rest[0] == "  Traceback (most recent call last):"
        assert "  Stack (most recent call last):" in rest
        assert f"  {text}" in rest
        assert all(line.startswith("  ") and line.isprintable() for line in rest)


@both_formats
async def test_sessions_of_hostile_clients(style: Format, stream: io.StringIO) -> None:
    """One line each at the end, with the facts; what was said is nowhere."""
    configure_logging(format=style, level="DEBUG", stream=stream)
    secret = "what-was-said"
    broker = Broker()
    with anyio.fail_after(LONG_S):
        async with broker:
            for number, text in enumerate(HOSTILE.values()):
                opening = connected(broker, user=text, client_id=f"{number}{text}")
                async with opening as (client, session):
                    await session.subscribe("chat")
                    await client.send(secret)
                    await broker.publish("chat", await session.receive())
                    assert await client.receive() == secret
                    await broker.disconnect(user=text, reason=text)
    assert secret not in stream.getvalue()
    lines = [line for line in stream.getvalue().splitlines() if "session_end" in line]
    assert len(lines) == len(HOSTILE)
    for line in lines:
        assert line.isprintable()
        if style == "json":
            found = json.loads(line)
            assert found["event"] == "session_end"
            assert found["ended"] == "disconnected"
            assert found["code"] == 4000
            assert len(found["user"]) <= 200
        else:
            assert " event=session_end client_id=" in line
            assert " ended=disconnected code=4000 reason=" in line


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("GET /ws?token=s3cret HTTP/1.1", "GET /ws?token=… HTTP/1.1"),
        ("GET /ws?a=1&token=s3cret&b=2 1.1", "GET /ws?a=1&token=…&b=2 1.1"),
        ("/ws?access_token=s3cret", "/ws?access_token=…"),
        ("/ws?api_key=s3cret&key=s3cret", "/ws?api_key=…&key=…"),
        ("/ws?PASSWORD=s3cret'(!)s3cret", "/ws?PASSWORD=…"),
        ("/ws?jwt=s3cret.s3cret-s3cret_s3cret==", "/ws?jwt=…"),
        ("/ws?token=s3cret%26s3cret%20s3cret\ts3cret", "/ws?token=…"),
        ("/login?next=%2Fws%3Ftoken%3Ds3cret", "/login?next=%2Fws%3Ftoken%3D…"),
        ("/l?n=%3Fa%3D1%26Token%3Ds3cret&b=1", "/l?n=%3Fa%3D1%26Token%3D…&b=1"),
        ('"http://x/?token=s3cret" "curl"', '"http://x/?token=…" "curl"'),
        ("token=s3cret", "token=…"),
        ("/ws?x-api-key=s3cret&my_own_jwt=s3cret", "/ws?x-api-key=…&my_own_jwt=…"),
        ("/ws?token=", "/ws?token=…"),
        ("GET /sse?cf_connect=%7B%22token%22%3A%22s3cret 1", "GET /sse?cf_connect=… 1"),
        ("/ws?monkey=1&tokens=2&keyboard=3", "/ws?monkey=1&tokens=2&keyboard=3"),
        ("/token/key 100% of it", "/token/key 100% of it"),
    ],
)
def test_secrets_in_queries_are_replaced(
    given: str, kept: str, stream: io.StringIO
) -> None:
    configure_logging(format="json", level="INFO", stream=stream)
    access = logging.getLogger("hypercorn.access")
    access.info("%s", given)
    access.info("%(R)s", {"R": given})
    access.info(given)
    found = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert found == [kept] * 3


def test_redaction_takes_linear_time(stream: io.StringIO) -> None:
    configure_logging(format="json", level="INFO", stream=stream)
    for evil in ("a_" * 50_000, "%3F" * 50_000, "%26a-" * 50_000, "token" * 50_000):
        logging.getLogger("hypercorn.access").info("%s", evil)
    assert len(stream.getvalue().splitlines()) == 4


def test_a_message_that_cannot_be_formatted_shows_no_arguments(
    stream: io.StringIO,
) -> None:
    configure_logging(format="console", level="INFO", stream=stream)
    access = logging.getLogger("hypercorn.access")
    access.info("%d", "?token=s3cret")
    access.info("%(nothing)s", {"R": "?token=s3cret"})
    lines = stream.getvalue().splitlines()
    assert [line.split(" access ")[-1].split(": ")[-1] for line in lines] == [
        "TypeError",
        "KeyError",
    ]
    assert "s3cret" not in stream.getvalue()


@both_formats
async def test_hypercorn_logs_here_and_only_here(
    style: Format, stream: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging(format=style, level="INFO", stream=stream)
    config = Config()
    config.access_log_format = '%(h)s "%(R)s" %(s)s "%(f)s"'
    use_root_logger(config, access=True)
    await config.log.info("Running on %s", "somewhere")
    request: Any = {
        "type": "http",
        "method": "GET",
        "path": "/items\n",
        "query_string": b"token=s3cret&q=1",
        "scheme": "http",
        "headers": [(b"referer", b"http://x/?key=s3cret")],
        "client": ("127.0.0.1", 1),
    }
    await config.log.access(request, {"status": 200, "headers": []}, 0.1)
    running, access = stream.getvalue().splitlines()
    assert "hypercorn.error" in running
    assert "Running on somewhere" in running
    message = json.loads(access)["message"] if style == "json" else access
    assert '"GET /items\\n?token=…&q=1 ws" 200 "http://x/?key=…"' in message
    assert "s3cret" not in stream.getvalue()
    assert capfd.readouterr() == ("", "")


async def test_access_log_is_off_unless_asked_for(stream: io.StringIO) -> None:
    configure_logging(format="json", level="INFO", stream=stream)
    config = Config()
    use_root_logger(config)
    request: Any = {}
    await config.log.access(request, {"status": 200, "headers": []}, 0.1)
    assert not stream.getvalue()


def test_redacted_atoms_still_know_what_is_missing() -> None:
    """hypercorn's atoms say "-" for a header that is not there."""
    request: Any = {"type": "http", "method": "GET", "path": "/", "query_string": b""}
    request |= {"scheme": "http", "headers": []}
    atoms = AccessLogAtoms(request, None, 0.1)
    record = logging.LogRecord("x", 20, "", 0, "%(m)s %({no}i)s", (atoms,), None)
    assert RedactTokens().filter(record)
    assert record.getMessage() == "GET -"


def test_configured_again_it_starts_afresh(stream: io.StringIO) -> None:
    root, access = logging.getLogger(), logging.getLogger("hypercorn.access")
    foreign = root.handlers[:]
    first = io.StringIO()
    configure_logging(format="json", level="DEBUG", stream=first)
    configure_logging(format="console", level="warning", stream=stream)
    logger.info("too low")
    logger.warning("shown")
    assert not first.getvalue()
    assert only_line(stream).endswith(" WARNING test.logs shown")
    assert [handler for handler in root.handlers if handler not in foreign] == [
        root.handlers[-1]
    ]
    assert root.handlers[:-1] == foreign
    assert sum(isinstance(known, RedactTokens) for known in access.filters) == 1


def test_default_is_the_standard_error_of_the_moment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(format="console", level="info")
    logger.info("shown")
    assert capsys.readouterr().err.endswith(" INFO test.logs shown\n")


@pytest.mark.parametrize(
    ("style", "level"), [("xml", "INFO"), ("json", "loud"), ("json", "")]
)
def test_wrong_settings_change_nothing(style: Any, level: str) -> None:
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    with pytest.raises(ValueError, match="must be one of"):
        configure_logging(format=style, level=level)
    assert (root.level, root.handlers) == before


def test_a_missing_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['pythonjsonlogger'] = None;"
        "import adapters.observability.logs"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert "pip install 'asgi-broker[server]'" in run.stderr
