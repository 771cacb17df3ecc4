"""Where the tests of the ``broker`` command run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: no files and no variables of anybody else's."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("BROKER_"):
            monkeypatch.delenv(name)
    return tmp_path
