"""What operators see: metrics for Prometheus, logs and traces."""
