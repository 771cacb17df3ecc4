"""The README's examples run as printed, and its promises name tests that exist."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_ten_lines(backend: Any) -> None:
    with warnings.catch_warnings():
        # It wants httpx2 and says so on import; httpx serves as well.
        warnings.filterwarnings("ignore", "Using `httpx`", UserWarning)
        from fastapi.testclient import TestClient

    names: dict[str, Any] = {}
    exec(compile(BLOCKS[0], "README.md", "exec"), names)
    with TestClient(names["app"], backend=backend) as client:
        with client.websocket_connect("/ws/1") as one:
            # A client is connected a moment before it is subscribed.
            one.send_text("anybody?")
            assert one.receive_text() == "You wrote: anybody?"
            assert one.receive_text() == "Client #1 says: anybody?"
            with client.websocket_connect("/ws/2") as two:
                two.send_text("hello")
                assert two.receive_text() == "You wrote: hello"
                assert two.receive_text() == "Client #2 says: hello"
                assert one.receive_text() == "Client #2 says: hello"
                two.close()  # at its end the block cancels the endpoint
                assert one.receive_text() == "Client #2 left the chat"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_example_without_web(backend: str) -> None:
    program = BLOCKS[1].replace(
        "anyio.run(main)", f"anyio.run(main, backend='{backend}')"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    printed = re.search(r"# prints: (.*)", BLOCKS[1])
    assert printed is not None
    assert run.stdout.strip() == printed[1]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_lines_for_the_sdks(backend: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using `httpx`", UserWarning)
        from fastapi.testclient import TestClient

    names: dict[str, Any] = {}
    exec(compile(BLOCKS[0] + BLOCKS[2], "README.md", "exec"), names)
    with (
        TestClient(names["app"], backend=backend) as client,
        client.websocket_connect("/ws/1") as one,
        client.websocket_connect("/connection/websocket") as sdk,
    ):
        sdk.send_text('{"id":1,"connect":{}}')
        assert "connect" in sdk.receive_json()
        sdk.send_text('{"id":2,"subscribe":{"channel":"chat"}}')
        assert "subscribe" in sdk.receive_json()
        one.send_text("hello")
        said = {"channel": "chat", "pub": {"data": "Client #1 says: hello"}}
        pushed = sdk.receive_json()["push"]
        del pushed["pub"]["offset"]
        assert pushed == said
        assert "new Centrifuge(" in README
        one.close()
        sdk.close()


def test_the_examples_have_types(tmp_path: Path) -> None:
    """Who copies one into a project that is checked strictly sees no error."""
    pytest.importorskip("mypy")
    (tmp_path / "readme_web.py").write_text(BLOCKS[0] + BLOCKS[2])
    (tmp_path / "readme_alone.py").write_text(BLOCKS[1])
    # With a cache of its own: 4 s, and the next time less than one.
    cache = ROOT / ".mypy_cache" / "readme"
    strictly = ["--strict", f"--cache-dir={cache}"]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *strictly, *tmp_path.glob("*.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_promise_names_tests_that_exist() -> None:
    sources = "".join(file.read_text() for file in (ROOT / "tests").rglob("*.py"))
    named = re.findall(r"`(test_\w+)`", README)
    assert len(named) >= 14
    for name in named:
        assert f"def {name}(" in sources, name


def test_every_link_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        prose = re.sub(r"(?ms)^```.*?^```", "", page.read_text())
        for target in re.findall(r"\]\(([^)#:]+)\)", prose):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
