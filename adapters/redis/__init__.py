"""Redis and Valkey as the backplane: nodes on many machines act as one broker."""

try:
    import coredis  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "adapters.redis needs coredis: pip install 'asgi-broker[redis]'"
    ) from error

from .backplane import RedisBackplane

__all__ = ("RedisBackplane",)
