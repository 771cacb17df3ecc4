"""ASGI: Starlette's WebSocket and lifespan, mapped onto the broker."""
