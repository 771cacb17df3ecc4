"""ASGI: Starlette's WebSocket and lifespan, mapped onto the broker."""

try:
    import starlette  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "adapters.asgi needs Starlette: pip install 'asgi-broker[asgi]'"
    ) from error
