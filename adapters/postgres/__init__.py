"""PostgreSQL as the backplane: nodes on many machines act as one broker."""

try:
    import psycopg  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "adapters.postgres needs psycopg: pip install 'asgi-broker[postgres]'"
    ) from error

from .backplane import PostgresBackplane

__all__ = ("PostgresBackplane",)
