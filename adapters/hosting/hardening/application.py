"""One call of the application: a request's, or a WebSocket's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.typing import AppWrapper, ASGISendEvent, Scope

from .mailbox import Mailbox

__all__ = ("run_application",)

FAILED = "Error in ASGI Framework"  # as hypercorn says


async def run_application(
    app: AppWrapper,
    config: Config,
    scope: Scope,
    mailbox: Mailbox,
    send: Callable[[ASGISendEvent | None], Awaitable[None]],
) -> None:
    """Call an ASGI application; what it raises is logged, and nobody else's concern.

    Cancellation comes out, and faults beside it are logged.
    """
    assert isinstance(app, ASGIWrapper)  # `broker serve` serves nothing else
    try:
        await app.app(scope, mailbox, send)
    except Exception:  # noqa: BLE001 # logged
        await config.log.exception(FAILED)
    except BaseExceptionGroup as group:
        faults, others = group.split(Exception)
        if faults is not None:
            await config.log.exception(FAILED)
        if others is not None:
            raise others from None
    finally:
        mailbox.close()
        await send(None)
