"""The examples that are programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.serving import PATIENCE_S, free_port, wait_until

ROOT = Path(__file__).parents[2]


@pytest.mark.e2e
@pytest.mark.parametrize("options", [[], ["--trio"]], ids=["asyncio", "trio"])
def test_pipeline_loses_nothing_and_holds_the_producer_back(options: list[str]) -> None:
    command = [sys.executable, "-m", "examples.pipeline", *options]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    *lines, last = done.stdout.splitlines()
    assert lines == [
        "20 numbers in, 20 squares out",
        "the sum of the squares is 2470",
    ]
    # Two in each of the two queues, and one in the hands of the stage and of the sink.
    words = "the producer was never more than {} ahead"
    assert last in [words.format(number) for number in range(1, 7)]


@pytest.mark.e2e
def test_uvicorn_drain_says_goodbye_after_all_that_waited() -> None:
    port = free_port()
    url = f"ws://127.0.0.1:{port}/ws"
    command = [sys.executable, "-m", "examples.uvicorn_drain"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PORT": str(port)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:

            def answers() -> bool:
                try:
                    with connect(url, proxy=None):
                        pass
                except OSError:
                    assert process.poll() is None
                    return False
                return True

            wait_until(answers)
            with connect(url, proxy=None) as client:
                client.send("hello")
                assert client.recv(PATIENCE_S) == "hello"
                process.terminate()
                with pytest.raises(ConnectionClosed) as closed:
                    client.recv(PATIENCE_S)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012
                # uvicorn's own says "Service Restart".
                assert closed.value.rcvd.reason == "server restart, come back"
            process.wait(PATIENCE_S)
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
