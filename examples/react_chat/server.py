"""A React page on the Centrifuge SDK; the backend is examples/fastapi_centrifuge.py.

Run:  hypercorn examples.react_chat.server:app
Open: http://127.0.0.1:8000 after ``npm run build``: README.md
"""

from __future__ import annotations

import os
from pathlib import Path

from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from examples.fastapi_centrifuge import app, broker

__all__ = ("app", "broker")  # the second for `broker serve`

BUILT = Path(os.environ.get("CHAT_PAGE", Path(__file__).with_name("dist")))

# After the backend's own routes, for it takes all that is left. A Route, where a Mount
# is usual: a Mount hands over WebSockets as well, and StaticFiles fails on them.
app.router.routes.append(Route("/{path:path}", StaticFiles(directory=BUILT, html=True)))
