"""What a server counts, in the text format of Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from dogbreeds.package.package import Description
from dogbreeds.serve.middleware import INVOCATIONS, Observer

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_PHOTOS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics(Observer):
    """The metrics of one server, in a registry of their own."""

    def __init__(self, description: Description, routes: frozenset[str]) -> None:
        """Starts at zero; paths that are not in `routes` count as `other`."""
        self._registry = registry = CollectorRegistry()
        self._routes = routes
        self._requests = Counter("dogbreeds_requests", "Requests answered.", ("route", "status"), registry=registry)
        self._photos = Counter("dogbreeds_photos", "Photos answered.", registry=registry)
        strange = ("dogbreeds_unknown_photos", "Photos answered that show none of the breeds.")
        self._unknown = Counter(*strange, registry=registry)
        taken = ("dogbreeds_request_seconds", "Seconds from the headers of an invocation to its answer.")
        self._seconds = Histogram(*taken, buckets=_SECONDS, registry=registry)
        together = ("dogbreeds_batch_photos", "Photos computed at once.")
        self._batches = Histogram(*together, buckets=_PHOTOS, registry=registry)
        labels = {"backbone": description.backbone, "classes": str(len(description.classes))}
        labels |= {f"{name}_version": version for name, version in description.versions.items()}
        Gauge("dogbreeds_model", "The served model.", tuple(labels), registry=registry).labels(**labels).set(1)

    def request(self, path: str, status: int, seconds: float) -> None:
        self._requests.labels(path if path in self._routes else "other", str(status)).inc()
        if path == INVOCATIONS[0]:
            self._seconds.observe(seconds)

    def photos(self, count: int, unknown: int) -> None:
        self._photos.inc(count)
        self._unknown.inc(unknown)

    def batch(self, size: int) -> None:
        self._batches.observe(size)

    def gauge(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Adds a number that is read whenever the metrics are read."""
        Gauge(f"dogbreeds_{name}", meaning, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        return generate_latest(self._registry)
