"""Prometheus metrics: requests, latency and its stages, rejections by reason, images, batch sizes, pending images."""

from __future__ import annotations

import os
from typing import Literal, get_args

import prometheus_client as prometheus
from prometheus_client import multiprocess

from alexnet.serving.request_record import RequestRecord
from alexnet.serving.responses import Unavailable
from alexnet.serving.served_model import ServedModel

Outcome = Literal["loaded", "failed"]
"""Of a reload."""

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
STAGES = {"queue": "in which its images waited for a thread or a batch",
          "decode": "in which at least one of its images was being decoded",
          "network": "of the batches, or of the explanation, with its images"}
"""The stages of a request with images: name -> meaning."""

BATCH_SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The metrics of one server, in a registry of their own.

    With the environment variable PROMETHEUS_MULTIPROC_DIR, which `alexnet serve --processes` sets, `text` has the sums
    over all processes, and no memory and times of one of them.
    """

    def __init__(self) -> None:
        prometheus.disable_created_metrics()  # a further series for each counter and histogram, which nobody reads
        self.registry = prometheus.CollectorRegistry()
        self.is_shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        if not self.is_shared:
            prometheus.ProcessCollector(registry=self.registry)
        self.requests = prometheus.Counter(
            "alexnet_requests", "Responses by path and status.", ["path", "status"], registry=self.registry)
        self.latency = prometheus.Histogram(
            "alexnet_request_duration_seconds", "Seconds from the header of a request to its response.", ["path"],
            buckets=SECONDS, registry=self.registry)
        self.stages = {stage: prometheus.Histogram(
            f"alexnet_{stage}_seconds", f"Seconds of a request {text}.", ["model"], buckets=SECONDS,
            registry=self.registry) for stage, text in STAGES.items()}
        self.rejections = prometheus.Counter(
            "alexnet_rejections", "Requests and images that were rejected with 503, by reason.", ["reason"],
            registry=self.registry)
        for reason in get_args(Unavailable):
            self.rejections.labels(reason)
        self.reloads = prometheus.Counter(
            "alexnet_model_reloads", "Reloads of a model's checkpoint, by outcome.", ["model", "outcome"],
            registry=self.registry)
        self.model_info = prometheus.Gauge(
            "alexnet_model_info", "1 for the weights that a model has now, by SHA-256 and version.",
            ["model", "sha256", "version"], registry=self.registry, multiprocess_mode="livemax")
        self._shown: dict[str, ServedModel] = {}
        self.images = prometheus.Counter("alexnet_images", "Classified images.", registry=self.registry)
        self.batch_size = prometheus.Histogram(
            "alexnet_batch_size", "Views per batch of the network, one or ten of an image.", buckets=BATCH_SIZES,
            registry=self.registry)
        self.pending = prometheus.Gauge("alexnet_pending_images", "Images admitted and not finished.",
                                        registry=self.registry, multiprocess_mode="livesum")

    def count_response(self, path: str, record: RequestRecord) -> None:
        """Count one response.

        Args:
            path: its label. Each label takes memory for as long as the server runs.
            record: of the request.
        """
        self.requests.labels(path, str(record.status)).inc()
        self.latency.labels(path).observe(record.seconds)
        if record.rejection:
            self.rejections.labels(record.rejection).inc()
        if record.processing.seconds:
            for stage, seconds in zip(STAGES, (
                    record.queue_seconds, record.decode.seconds, record.network.seconds), strict=True):
                self.stages[stage].labels(record.model).observe(seconds)

    def show_model(self, served: ServedModel) -> None:
        """Show the weights that a model has now, and its counters of reloads, which begin at 0."""
        for outcome in get_args(Outcome):
            self.reloads.labels(served.name, outcome)
        former = self._shown.get(served.name)
        if former and former.sha256 != served.sha256:
            self.model_info.labels(*_identity(former)).set(0)
            if not self.is_shared:  # the files of several processes cannot lose a label; there it stays, with 0
                self.model_info.remove(*_identity(former))
        self.model_info.labels(*_identity(served)).set(1)
        self._shown[served.name] = served

    def count_reload(self, served: ServedModel, outcome: Outcome) -> None:
        """Count one reload of a model, and show its weights."""
        self.reloads.labels(served.name, outcome).inc()
        self.show_model(served)

    def text(self) -> bytes:
        """All metrics in the Prometheus text format."""
        registry = self.registry
        if self.is_shared:
            registry = prometheus.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        return prometheus.generate_latest(registry)


def _identity(served: ServedModel) -> tuple[str, str, str]:
    return served.name, served.sha256, served.version
