"""The arrows between the layers, and the size of modules."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import broker

ROOT = Path(broker.__path__[0])
FILES = sorted(ROOT.rglob("*.py"))
VALUES = {"config", "ending", "errors", "message", "stats", "topics"}
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
RUNTIME = {
    "admission",
    "actor",
    "backplane",
    "batching",
    "broker",
    "client",
    "client_channels",
    "client_connecting",
    "client_delta",
    "client_format",
    "client_lease",
    "client_protocol",
    "client_queries",
    "clients",
    "core",
    "drain",
    "driver",
    "framing",
    "hooks",
    "memory",
    "nodes",
    "orders",
    "pool",
    "presence",
    "reading",
    "relay",
    "running",
    "schemes",
    "rpc",
    "server_api",
    "session",
    "subscriber",
    "subscription",
    "survey",
    "tasks",
    "transport",
    "turns",
    "wakeup",
    "wire",
    "writing",
}
MAX_LINES = 300  # of code: promises may be as long as they must


def code_lines(source: str) -> int:
    """Return the number of lines with code on them, docstrings not counted."""
    said: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            said |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    done: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            done |= set(range(token.start[0], token.end[0] + 1))
    return len(done - said)


def imports(file: Path) -> set[str]:
    """Return the modules of the broker that a file imports, and others' top names."""
    found = set()
    package = ["broker", *file.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            found.add(".".join([*base, node.module or ""]).strip("."))
    return {name if name.startswith("broker") else name.split(".")[0] for name in found}


def is_sans_io(file: Path) -> bool:
    parts = file.relative_to(ROOT).parts
    return parts[0] in ("state", "protocol") or (
        len(parts) == 1 and file.stem in VALUES
    )


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_layer(file: Path) -> None:
    names = imports(file)
    parts = file.relative_to(ROOT).parts
    assert not any(name.split(".")[0] == "adapters" for name in names)
    assert not any("testing" in name for name in names) or parts[0] == "testing"
    if file.name != "clock.py":
        assert not names & {"asyncio", "trio", "starlette", "hypercorn", "time"}
    if is_sans_io(file):
        nodes = ast.walk(ast.parse(file.read_text()))
        assert not any(isinstance(n, ast.AsyncFunctionDef | ast.Await) for n in nodes)
        assert not {f"broker.{name}" for name in RUNTIME} & names
        assert "anyio" not in names
    elif len(parts) == 1 and file.stem != "__init__":
        assert file.stem in RUNTIME, "say which layer the new module belongs to"
    assert code_lines(file.read_text()) <= MAX_LINES


def test_adapter_modules_stay_thin() -> None:
    for file in (ROOT.parent / "adapters").rglob("*.py"):
        assert code_lines(file.read_text()) <= MAX_LINES, file


def test_import_needs_anyio_and_msgspec_only() -> None:
    """In a fresh interpreter: what `import broker` pulls in from outside."""
    program = (
        "import sys, anyio, msgspec; before = set(sys.modules); import broker;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    # The last two are anyio's own dependencies, which it imports when it sees fit.
    assert set(run.stdout.split()) <= {"anyio", "broker", "idna", "sniffio"}


def test_a_missing_extra_is_named() -> None:
    program = "import sys; sys.modules['starlette'] = None; import adapters.asgi"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert "pip install 'asgi-broker[asgi]'" in run.stderr


def test_public_names_are_sorted_and_there() -> None:
    assert list(broker.__all__) == sorted(broker.__all__)
    for name in broker.__all__:
        assert getattr(broker, name).__doc__, f"{name} has no docstring"
