"""What ``broker serve`` serves in the benchmarks: the same chats as ``serve`` has."""

from __future__ import annotations

from .serve import make_app

__all__ = ("naive", "ours", "protocol")

# The command tunes the collector itself.
naive = make_app("naive", "default")
ours = make_app("ours", "default")
protocol = make_app("protocol", "default")
