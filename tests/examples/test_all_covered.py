"""No example is left untested, and each says how it is run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted([*FOLDER.glob("*.py"), *FOLDER.glob("*/server.py")])
TESTS = sorted(Path(__file__).parent.glob("test_*.py"))


def module(file: Path) -> str:
    """Return its name below ``examples``."""
    return ".".join(file.relative_to(FOLDER).with_suffix("").parts)


@pytest.mark.parametrize("file", EXAMPLES, ids=module)
def test_example_is_tested(file: Path) -> None:
    assert any(module(file) in path.read_text() for path in TESTS)


@pytest.mark.parametrize("file", EXAMPLES, ids=module)
def test_header_says_how_to_run_it(file: Path) -> None:
    header = ast.get_docstring(ast.parse(file.read_text())) or ""
    is_served = f"\nRun:  hypercorn examples.{module(file)}:app\n" in header
    is_program = f"\nRun: python -m examples.{module(file)}\n" in header
    assert is_served or is_program
    if is_served:
        assert "\nOpen: http://127.0.0.1:8000" in header or "\nType: " in header
