"""The report of one or several load tests as a page of HTML."""

from __future__ import annotations

from .document import render

__all__ = ("render",)
