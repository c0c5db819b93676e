"""What a server counts, in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from dogbreeds.package.package import Description

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_PHOTOS = (1, 2, 4, 8, 16, 32, 64, 128)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The numbers of one server, in a registry of their own.

    Attributes:
        requests: Answered ones, by route and status; a route that does not exist counts as `other`.
        photos: Photos that were answered for.
        seconds: From a request's headers to its answer, for `/invocations`.
        batches: Photos that lanes computed at once.
    """

    def __init__(self, description: Description) -> None:
        """Begins to count.

        Args:
            description: Of the package, some of which is told as labels.
        """
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "dogbreeds_requests", "Requests that were answered.", ("route", "status"), registry=self._registry
        )
        self.photos = Counter("dogbreeds_photos", "Photos that were answered for.", registry=self._registry)
        self.seconds = Histogram(
            "dogbreeds_request_seconds",
            "Seconds from the headers of an invocation to its answer.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batches = Histogram(
            "dogbreeds_batch_photos", "Photos computed at once.", buckets=_PHOTOS, registry=self._registry
        )
        labels = {"backbone": description.backbone, "classes": str(len(description.classes))}
        versions = {f"{name}_version": version for name, version in description.versions.items()}
        Gauge("dogbreeds_model", "The model that answers.", (*labels, *versions), registry=self._registry).labels(
            **labels, **versions
        ).set(1)

    def gauge(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Adds a number that is asked for whenever the metrics are read."""
        Gauge(f"dogbreeds_{name}", meaning, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """Returns all numbers in Prometheus' text format."""
        return generate_latest(self._registry)
