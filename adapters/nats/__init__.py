"""NATS with JetStream as the backplane: nodes on many machines act as one broker."""

try:
    import nats  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "adapters.nats needs nats-py: pip install 'asgi-broker[nats]'"
    ) from error

from .backplane import NatsBackplane

__all__ = ("NatsBackplane",)
