"""What ``broker serve`` serves in the benchmarks: the same chat as ``serve`` has."""

from __future__ import annotations

from .serve import make_app

__all__ = ("app",)

app = make_app("ours", "default")  # the command tunes the collector itself
