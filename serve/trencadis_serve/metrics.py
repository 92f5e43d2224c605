"""Prometheus metrics of a server."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from trencadis_serve.budget import Budget
from trencadis_serve.repository import Repository

__all__ = ["Metrics"]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class Metrics:
    """Counters of requests and batches, and the state of queues and devices."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "trencadis_requests",
            "Requests answered, by protocol and status.",
            ["model", "protocol", "status"],
            registry=self._registry,
        )
        self._latency = Histogram(
            "trencadis_request_seconds",
            "Seconds from the decoded request to its outputs.",
            ["model", "protocol"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "trencadis_batch_samples",
            "Samples that were computed together.",
            ["model"],
            buckets=SAMPLES,
            registry=self._registry,
        )
        self._computing = Histogram(
            "trencadis_batch_seconds",
            "Seconds that a device took for a batch.",
            ["model"],
            buckets=SECONDS,
            registry=self._registry,
        )

    def answered(self, model: str, protocol: str, status: str, seconds: float) -> None:
        """Count a request. `model` is one that is served, so that clients cannot add series."""
        self._requests.labels(model, protocol, status).inc()
        self._latency.labels(model, protocol).observe(seconds)

    def computed(self, model: str, samples: int, seconds: float) -> None:
        """Count a batch."""
        self._batches.labels(model).observe(samples)
        self._computing.labels(model).observe(seconds)

    def watch(self, repository: Repository, budget: Budget) -> None:
        """Report queues and devices of a repository, and held memory, from now on."""
        self._registry.register(_State(repository, budget))

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _State(Collector):
    """Metrics that are read when they are asked for."""

    def __init__(self, repository: Repository, budget: Budget) -> None:
        self._repository, self._budget = repository, budget

    def collect(self) -> Iterable[Metric]:
        """Queue lengths and devices at this moment."""
        queue = GaugeMetricFamily(
            "trencadis_queue", "Requests that wait.", labels=["model", "version"]
        )
        ready = GaugeMetricFamily(
            "trencadis_device_ready",
            "1 if the device can compute.",
            labels=["model", "version", "device"],
        )
        losses = GaugeMetricFamily(
            "trencadis_device_losses",
            "Times a device was lost.",
            labels=["model", "version", "device"],
        )
        for model in self._repository.loaded:
            names = [model.spec.name, model.spec.version]
            queue.add_metric(names, len(model.queue))
            for number, state in enumerate(model.devices):
                labels = [*names, f"{number}:{state.name}"]
                ready.add_metric(labels, float(state.ready))
                losses.add_metric(labels, state.losses)
        held = GaugeMetricFamily(
            "trencadis_held_bytes", "Bytes of requests under way.", value=self._budget.held
        )
        return [queue, ready, losses, held]
