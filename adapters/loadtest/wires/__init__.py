"""How clients speak with the server under test: values in, values out, no sockets."""

from __future__ import annotations

from .base import Said, Speaker
from .opening import address, speaker

__all__ = ("Said", "Speaker", "address", "speaker")
