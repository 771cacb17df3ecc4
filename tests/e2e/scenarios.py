"""The JavaScript SDK in node: its installation, and scenarios that talk to tests."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.npm import installed
from tests.serving import PATIENCE_S

__all__ = ("Play", "installed_sdk", "play")

SCENARIOS = Path(__file__).with_name("sdk")

# What scenarios say: {stream: its events, in order}.
Play = dict[str, list[Any]]


def installed_sdk() -> Path:
    """Return a folder with the pinned SDK among its modules; skip if it cannot be."""
    return installed(SCENARIOS)


def play(
    sdk: Path,
    scenario: str,
    url: str,
    answers: Mapping[str, Callable[[], Any]] = MappingProxyType({}),
    **given: Any,
) -> Play:
    """Run a scenario to its end and return what it said.

    Ids that differ from run to run are replaced by the names that the scenario gave.

    Args:
        sdk: where the SDK is installed.
        scenario: a script in ``tests/e2e/sdk``.
        url: of the server, such as ``http://127.0.0.1:8000``.
        answers: what to do and to answer, for each thing that it may ask.
        given: more that the scenario is told.

    Raises:
        AssertionError: it failed, or did not end by itself.
    """
    given["url"] = url.replace("http", "ws", 1) + "/connection/websocket"
    lines: list[str] = []
    names: dict[str, str] = {}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            ["node", str(SCENARIOS / f"{scenario}.mjs")],
            env={**os.environ, "SDK": str(sdk), "GIVEN": json.dumps(given)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        watchdog = threading.Timer(PATIENCE_S, process.kill)
        watchdog.start()
        try:
            with process:
                assert process.stdin is not None
                assert process.stdout is not None
                for line in process.stdout:
                    stream, event = json.loads(line)
                    if stream == "ask":
                        process.stdin.write(json.dumps(answers[event]()) + "\n")
                        process.stdin.flush()
                    elif stream == "names":
                        names = event
                    else:
                        lines.append(line)
        except BaseException:
            process.kill()
            raise
        finally:
            watchdog.cancel()
        errors.seek(0)
        said = "".join(lines)
        assert process.returncode == 0, (process.returncode, errors.read(), said)
    for value, name in names.items():
        said = said.replace(f'"{value}"', f'"{name}"')
    streams: Play = {}
    for line in said.splitlines():
        stream, event = json.loads(line)
        streams.setdefault(stream, []).append(event)
    return streams
