"""No example is left untested, and each says how it is run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
TESTS = sorted(Path(__file__).parent.glob("test_*.py"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_example_is_tested(file: Path) -> None:
    assert any(file.stem in path.read_text() for path in TESTS)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_header_says_how_to_run_it(file: Path) -> None:
    header = ast.get_docstring(ast.parse(file.read_text())) or ""
    is_served = f"\nRun:  hypercorn examples.{file.stem}:app\n" in header
    is_program = f"\nRun: python -m examples.{file.stem}\n" in header
    assert is_served or is_program
    if is_served:
        assert "\nOpen: http://127.0.0.1:8000" in header or "\nType: " in header
