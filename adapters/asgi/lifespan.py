"""Running a broker for as long as an ASGI application runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

from broker import Broker

__all__ = ("broker_lifespan",)

AppT = TypeVar("AppT")


def broker_lifespan(
    broker: Broker,
    inner: Callable[[AppT], AbstractAsyncContextManager[Any]] | None = None,
) -> Callable[[AppT], AbstractAsyncContextManager[Any]]:
    """Return a lifespan for Starlette or FastAPI that runs the broker.

    Args:
        inner: the application's own lifespan; it runs while the broker does, and what
            it yields (Starlette's lifespan state) is passed on.

    A mounted sub-application's lifespan is never run: give this to the outermost one.
    """

    @asynccontextmanager
    async def lifespan(app: AppT) -> AsyncGenerator[Any, None]:
        async with broker:
            if inner is None:
                yield
            else:
                async with inner(app) as state:
                    yield state

    return lifespan
