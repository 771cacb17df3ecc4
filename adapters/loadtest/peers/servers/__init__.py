"""One small chat for each peer, as its own documentation writes it.

They run in environments of their own, where nothing of this project is installed, so
none imports from it, and each is started by its file's name. In all of them what one
client sends reaches all clients, in one room.
"""

from __future__ import annotations
