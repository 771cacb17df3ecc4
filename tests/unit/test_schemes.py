"""Backplanes by URL."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from broker import Broker, MemoryBackplane, UsageError
from broker.schemes import backplane_for

DIST = "asgi_broker_of_a_test-1.dist-info"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with a scheme of its own."""
    (tmp_path / "of_a_test.py").write_text(
        "from broker import MemoryBackplane, UsageError\n"
        "class Mine(MemoryBackplane):\n"
        "    def __init__(self, url):\n"
        "        super().__init__()\n"
        "        self.url = url\n"
    )
    (tmp_path / DIST).mkdir()
    (tmp_path / DIST / "METADATA").write_text("Name: asgi-broker-of-a-test\nVersion: 1")
    (tmp_path / DIST / "entry_points.txt").write_text(
        "[asgi_broker.backplanes]\n"
        "mine = of_a_test:Mine\n"
        "lacking = of_a_test_that_is_not_there:Mine\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("of_a_test", None)


def test_memory() -> None:
    assert isinstance(backplane_for("memory://"), MemoryBackplane)
    assert isinstance(Broker("memory://").backplane, MemoryBackplane)


@pytest.mark.usefixtures("installed")
def test_a_scheme_of_another_distribution() -> None:
    backplane = Broker("mine://secret@host").backplane
    assert type(backplane).__name__ == "Mine"
    assert vars(backplane)["url"] == "mine://secret@host"


@pytest.mark.usefixtures("installed")
def test_one_that_lacks_something() -> None:
    with pytest.raises(ModuleNotFoundError, match="of_a_test_that_is_not_there"):
        backplane_for("lacking://")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("url", ["", "localhost", "kafka://u:hidden@host", "Mine://x"])
def test_what_stands_for_none(url: str) -> None:
    with pytest.raises(UsageError, match="memory://, mine://") as refused:
        Broker(url)
    assert "hidden" not in str(refused.value)
