"""The trunk in OpenVINO: the fastest engine on processors, with no compiler on the user's machine."""

from __future__ import annotations

import hashlib
import queue
import sys
import tempfile
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dogbreeds.data.transform import Transform
from dogbreeds.features.engines.reference import as_stored, resolve_precision
from dogbreeds.model.network import Graph

if TYPE_CHECKING:
    from dogbreeds.features.store.blobs import BlobCache

# Larger batches leave the processor's caches: on two cores with matrix units 8 was fastest end to end.
_BATCH_SIZE = 8
# Per stream: it starts the next one while a thread wakes up to read what it has computed.
_REQUESTS = 8
_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoEngine:
    """Runs a frozen trunk in as many independent streams as there are workers, one core each.

    Every forward pass has the same number of images, padded where there are fewer, so that an image's features
    do not depend on the images beside it.
    """

    name = "openvino"

    def __init__(
        self,
        trunk: nn.Module,
        fingerprint: str,
        transform: Transform,
        precision: str,
        batch_size: int | None,
        workers: int,
        cache: BlobCache | None,
        int8: Graph | None,
    ) -> None:
        """Compiles the trunk, converted now or taken from the cache; for arguments see `build`."""
        self.precision, self.batch_size, self.workers = precision, batch_size or _BATCH_SIZE, workers
        openvino = import_openvino()
        core = openvino.Core()
        graph = int8 or convert(trunk, fingerprint, transform, cache)
        # Read back even when it was just converted: the two differ in the last bits of what they compute in fp32.
        network = core.read_model(model=graph.structure, weights=graph.weights)
        network.reshape([self.batch_size, 3, transform.crop, transform.crop])
        # Streams that share an int8 network get wrong weights now and then: 9 of 80 compilations of SqueezeNet by
        # OpenVINO 2026.4 gave useless features, and none of 147 with one stream.
        copies, requests = (1, _REQUESTS * workers) if int8 is None else (workers, 1)
        # Some layers of a quantised network are left in floats.
        floats = precision if int8 is None else resolve_precision("auto", torch.device("cpu"))
        settings = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[floats],
            "NUM_STREAMS": workers // copies,
            "INFERENCE_NUM_THREADS": workers // copies,
            # Two processes would otherwise pin themselves to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(copies):
            compiled = core.compile_model(network, "CPU", settings)
            for _ in range(requests):
                self._idle.put(compiled.create_infer_request())

    def __call__(self, images: Tensor) -> Tensor:
        """Returns features (N, ...) for uint8 images (N, 3, H, W), in all streams that are idle."""
        running: deque[tuple[Any, int]] = deque()
        features = []
        with ExitStack() as afterwards:
            for batch in images.split(self.batch_size):
                try:
                    request = self._idle.get(block=not running)
                except queue.Empty:
                    request, count = running.popleft()
                    features.append(_features(request, count))
                else:
                    # In the opposite order, whatever happens: a request that still runs must not be used.
                    afterwards.callback(self._idle.put, request)
                    afterwards.callback(request.wait)
                pixels = request.get_input_tensor(0).data
                pixels[: len(batch)], pixels[len(batch) :] = batch.numpy(), 0
                request.start_async()
                running.append((request, len(batch)))
            features.extend(_features(*one) for one in running)
        return torch.cat(features)


def _features(request: Any, count: int) -> Tensor:
    """Waits for a request, and returns the features of its first images."""
    request.wait()
    return as_stored(torch.from_numpy(request.get_output_tensor(0).data[:count].copy()))


def import_openvino() -> Any:
    """Returns the module `openvino` with its telemetry off."""
    # With this package, importing alone sends a message. OpenVINO has no switch for that but a file in the home
    # directory; an import that Python refuses is what it falls back from.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def convert(trunk: nn.Module, fingerprint: str, transform: Transform, cache: BlobCache | None) -> Graph:
    """Returns a trunk as OpenVINO reads it, converted now or taken from the cache."""
    openvino = import_openvino()

    def converted() -> Graph:
        with warnings.catch_warnings():
            # torch.jit.trace, which the conversion uses, is deprecated.
            warnings.simplefilter("ignore")
            example = torch.zeros(2, 3, transform.crop, transform.crop, dtype=torch.uint8)
            shape = [-1, *example.shape[1:]]
            return serialized(openvino.convert_model(trunk, example_input=example, input=shape))

    return kept(cache, "openvino", f"{fingerprint} {transform} {openvino.get_version()}", converted)


def kept(cache: BlobCache | None, kind: str, source: str, make: Callable[[], Graph]) -> Graph:
    """Returns the graph of a kind that was made of a source, from the cache where that has it."""
    name = f"{kind}-{hashlib.sha256(source.encode()).hexdigest()}"
    structure = cache.get(f"{name}.xml") if cache is not None else None
    weights = cache.get(f"{name}.bin") if cache is not None else None
    if structure is not None and weights is not None:
        return Graph(structure, weights)
    graph = make()
    if cache is not None:
        cache.put(f"{name}.xml", graph.structure)
        cache.put(f"{name}.bin", graph.weights)
    return graph


def serialized(network: Any) -> Graph:
    with tempfile.TemporaryDirectory() as directory:
        structure, weights = Path(directory) / "network.xml", Path(directory) / "network.bin"
        import_openvino().serialize(network, structure, weights)
        return Graph(structure.read_bytes(), weights.read_bytes())
