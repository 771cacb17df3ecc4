"""The servers that ``broker bench compare`` puts beside ours."""

from __future__ import annotations
