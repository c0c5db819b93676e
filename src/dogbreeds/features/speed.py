"""How fast this machine reads photos and runs a trunk over them."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from dogbreeds.data.images import Transform, read_all
from dogbreeds.features.engines import Engine

# Shorter measurements follow the scheduler rather than the trunk.
_MIN_SECONDS = 1.0


def photos_per_second(engine: Engine, transform: Transform, photos: Sequence[Path]) -> float:
    """Returns the rate at which photos become features, decoding included, once the engine is warm.

    The photos, which must be readable, are passed over again until a second is over.
    """
    contents = [path.read_bytes() for path in photos]
    batches = [contents[start : start + engine.batch_size] for start in range(0, len(contents), engine.batch_size)]

    def compute(batch: Sequence[bytes]) -> Tensor:
        return engine(torch.stack([image for image in read_all(batch, transform) if isinstance(image, Tensor)]))

    with ThreadPoolExecutor(engine.workers) as pool:
        # The first passes of all threads allocate memory and choose kernels.
        list(pool.map(compute, batches[:1] * engine.workers))
        began, done = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < _MIN_SECONDS:
            list(pool.map(compute, batches))
            done += len(contents)
        return done / passed
