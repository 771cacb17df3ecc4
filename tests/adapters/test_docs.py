"""What pages of the docs print is so."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from broker import BackplaneError, Broker, Message

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def programs(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_what_is_installed_is_the_checkout() -> None:
    """The distribution is not published: by its name pip finds nothing, or another."""
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        assert "pip install 'asgi-broker" not in page.read_text(), page.name


@pytest.mark.parametrize("page", ["migrating-from-broadcaster.md", "serving.md"])
def test_programs_are_typed(page: str, tmp_path: Path) -> None:
    """Those that stand for themselves; a newcomer's project may be strict."""
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    alone = [
        each for each in programs(page) if re.search(r"^class ", each, re.MULTILINE)
    ]
    assert alone
    for number, program in enumerate(alone):
        (tmp_path / f"printed_{number}.py").write_text(program)
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert ran.returncode == 0, ran.stdout


def entered(app: Any, broker: Broker) -> Any:
    """Return what serving.md puts around an application without a lifespan."""
    names: dict[str, Any] = {"__name__": "printed"}
    (program,) = [each for each in programs("serving.md") if "class Entered" in each]
    exec(compile(program, "printed", "exec"), names)
    return names["Entered"](app, broker)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_broker_without_a_lifespan(anyio_backend: str) -> None:
    broker = Broker()
    seen: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(broker.is_ready)
        async with broker.subscribe("t") as messages:
            await broker.publish("t", "x")
            async for item in messages:
                assert isinstance(item, Message)
                break

    around = entered(app, broker)
    async with anyio.create_task_group() as tasks:  # all of them at once
        for _ in range(3):
            tasks.start_soon(around, {}, None, None)
    await around({}, None, None)
    assert seen == [True] * 4
    around._running.cancel()
    await anyio.wait_all_tasks_blocked()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_broker_without_a_lifespan_that_does_not_start(
    anyio_backend: str,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("not reached")

    around = entered(app, Broker("redis://127.0.0.1:1"))
    with anyio.fail_after(60):
        for _ in range(2):
            with pytest.raises(BackplaneError):
                await around({}, None, None)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_publishing_from_a_thread(backend: str) -> None:
    """As migrating-from-channels.md says, in one that anyio did not start."""
    page = (DOCS / "migrating-from-channels.md").read_text()
    line = "anyio.from_thread.run(broker.publish, topic, text, token=token)"
    assert f"```py\n{line}\n```" in page

    async def main() -> None:
        async with Broker() as broker, broker.subscribe("t") as messages:
            token = anyio.lowlevel.current_token()
            names = {"anyio": anyio, "broker": broker, "token": token}
            names |= {"topic": "t", "text": "from a thread"}
            thread = threading.Thread(target=exec, args=(line, names))
            thread.start()
            with anyio.fail_after(60):
                item = await anext(messages)
            assert isinstance(item, Message)
            assert item.payload == "from a thread"
            await anyio.to_thread.run_sync(thread.join)

    anyio.run(main, backend=backend)  # with the real clock: there is a thread
