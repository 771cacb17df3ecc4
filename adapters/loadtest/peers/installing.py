"""Fetches peers from their registries, each into a folder of its own.

A folder is used again until another release is pinned. Nothing of a peer is run while
it is fetched, but what pip runs to build a package that has no wheel.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

import msgspec

from .catalogue import SERVERS, Peer

__all__ = ("Home", "NotInstallable", "install")

INSTALL_S = 300  # guess: the largest is Bun with 100 MB
NPM = ("install", "--ignore-scripts", "--no-audit", "--no-fund", "--save-exact")
PIP = ("install", "--quiet", "--disable-pip-version-check", "--no-input")


class NotInstallable(Exception):
    """A peer cannot run on this machine; the text says why, in one line."""


class Home(msgspec.Struct, frozen=True, kw_only=True):
    """Where a peer's programs are.

    Attributes:
        python: an interpreter that has its packages, or this program's own.
        node: the interpreter of Node.js; empty where none is needed.
        modules: the folder of its packages from npm; empty where there are none.
        versions: what is installed there, as pip and npm say it.
    """

    python: str = sys.executable
    node: str = ""
    modules: str = ""
    versions: tuple[str, ...] = ()

    def fill(self, text: str, port: int) -> str:
        """Return a piece of a peer's command with its placeholders filled."""
        return text.format(
            python=self.python,
            node=self.node,
            modules=self.modules,
            servers=SERVERS,
            port=port,
        )


def install(peer: Peer, cache: Path, *, say: Callable[[str], None]) -> Home:
    """Return where a peer is, after fetching it if it is not there yet.

    Args:
        cache: folder for all of them; made if it is missing.
        say: is told, in one line, when something is fetched.

    Raises:
        NotInstallable: no npm, no network, the wrong platform, a release that is
            gone … Nothing of it stays in the cache.
    """
    node = shutil.which("node") if "{node}" in peer.command else ""
    npm = shutil.which("npm") if peer.npm else ""
    if node is None or npm is None:
        raise NotInstallable("needs Node.js with npm")
    if not peer.pip and not peer.npm:
        return Home(node=node)
    folder = cache / f"{peer.name}-{_fingerprint(peer)}"
    if not folder.exists():
        say(f"fetching {', '.join((*peer.pip, *peer.npm))}")
        _make(peer, folder, npm)
    if peer.npm:
        modules = str(folder / "node_modules")
        return Home(node=node, modules=modules, versions=_read(folder))
    return Home(python=str(_python(folder)), versions=_read(folder))


def _make(peer: Peer, folder: Path, npm: str) -> None:
    """Fetch a peer beside its folder, and name it so when it is complete."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            fresh = Path(name) / "fresh"
            if peer.npm:
                fresh.mkdir()
                (fresh / "package.json").write_text('{"private": true}')
                _run([npm, *NPM, *peer.npm], fresh)
                said = _run([npm, "ls", "--parseable", "--long", "--all"], fresh)
                versions = [line.split(":")[1] for line in said.splitlines()[1:]]
            else:
                venv.create(fresh, with_pip=True)
                # With -m: scripts name the folder that it is about to leave.
                pip = [str(_python(fresh)), "-m", "pip"]
                _run([*pip, *PIP, *peer.pip], fresh)
                versions = _run([*pip, "freeze"], fresh).split()
            (fresh / "versions.txt").write_text("\n".join(sorted(versions)))
            fresh.rename(folder)
    except subprocess.CalledProcessError as error:
        raise NotInstallable(_reason(error.stderr or error.stdout or "")) from error
    except subprocess.TimeoutExpired as error:
        raise NotInstallable(f"not fetched within {INSTALL_S} s") from error
    except OSError as error:
        if not folder.exists():  # another process may have been faster
            raise NotInstallable(str(error)) from error


def _run(command: list[str], folder: Path) -> str:
    return subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=True,
    ).stdout


def _reason(output: str) -> str:
    """Return the line of a failed installation that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if line.lower().startswith(("error", "npm error"))]
    return (told or lines or ["no reason given"])[-1 if not told else 0][:300]


def _fingerprint(peer: Peer) -> str:
    wanted = "\n".join((sys.version, *peer.pip, *peer.npm))
    return hashlib.sha256(wanted.encode()).hexdigest()[:12]


def _python(folder: Path) -> Path:
    return folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def _read(folder: Path) -> tuple[str, ...]:
    return tuple((folder / "versions.txt").read_text().splitlines())
