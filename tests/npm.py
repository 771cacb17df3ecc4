"""What a package.json pins, installed once for all runs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

__all__ = ("installed",)

CACHE = Path(__file__).parents[1] / ".cache"
INSTALL_S = 120
INSTALL = ("ci", "--ignore-scripts", "--no-audit", "--no-fund")


def installed(package: Path) -> Path:
    """Return a folder that has what is pinned among its modules; skip if it cannot be.

    It stays for later runs, until another version is pinned.

    Args:
        package: a folder with ``package.json`` and ``package-lock.json``; nothing is
            written there.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    given = ("package.json", "package-lock.json")
    pinned = b"".join((package / name).read_bytes() for name in given)
    folder = CACHE / f"{package.name}-{hashlib.sha256(pinned).hexdigest()[:16]}"
    if folder.exists():
        return folder
    CACHE.mkdir(exist_ok=True)
    # Renamed when complete: other processes may install it at the same time.
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        fresh = Path(name) / "fresh"
        fresh.mkdir()
        for each in given:
            shutil.copy(package / each, fresh)
        run = subprocess.run(
            [npm, *INSTALL],
            cwd=fresh,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
        )
        if run.returncode:
            pytest.skip(f"npm cannot install {package.name}: {run.stderr[-300:]}")
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    return folder
