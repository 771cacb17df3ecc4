"""What the server knows and the broker does not: TCP connections."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from adapters.hosting.hardening import Connections

__all__ = ("ConnectionCollector",)


class ConnectionCollector(Collector):
    """The connections of one worker, as metrics."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now."""
        return [
            GaugeMetricFamily(
                "broker_connections",
                "TCP connections open now, HTTP requests included.",
                len(self._connections),
            ),
            CounterMetricFamily(
                "broker_connection_faults",
                "TCP connections cut because of a fault, which reached nobody else.",
                self._connections.faults,
            ),
        ]
