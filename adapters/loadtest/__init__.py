"""``broker bench``: load-tests any WebSocket server's fan-out."""

from __future__ import annotations
