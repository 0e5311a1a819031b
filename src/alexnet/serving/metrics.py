"""Prometheus metrics of the server: requests, latency, classified images, batch sizes, pending images."""

from __future__ import annotations

from collections.abc import Callable

import prometheus_client as prometheus

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
BATCH_SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The metrics of one server, in a registry of their own.

    Args:
        pending_images: returns the number of images admitted and not finished.
    """

    def __init__(self, pending_images: Callable[[], float]) -> None:
        self.registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self.registry)
        self.requests = prometheus.Counter(
            "alexnet_requests", "Responses by path and status.", ["path", "status"], registry=self.registry)
        self.latency = prometheus.Histogram(
            "alexnet_request_duration_seconds", "Seconds from the header of a request to its response.", ["path"],
            buckets=SECONDS, registry=self.registry)
        self.images = prometheus.Counter("alexnet_images", "Classified images.", registry=self.registry)
        self.batch_size = prometheus.Histogram(
            "alexnet_batch_size", "Images per batch of the network.", buckets=BATCH_SIZES, registry=self.registry)
        pending = prometheus.Gauge("alexnet_pending_images", "Images admitted and not finished.",
                                   registry=self.registry)
        pending.set_function(pending_images)

    def count_response(self, path: str, status: int, seconds: float) -> None:
        """Count one response."""
        self.requests.labels(path, str(status)).inc()
        self.latency.labels(path).observe(seconds)

    def text(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return prometheus.generate_latest(self.registry)
