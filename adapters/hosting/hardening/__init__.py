"""hypercorn 0.18, with which no client can harm others; see docs/hardening.md."""

from .connections import Connections
from .patches import harden

__all__ = ("Connections", "harden")
