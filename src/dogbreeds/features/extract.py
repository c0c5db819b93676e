"""One pass of the trunk over the photos, and the run's cache of what it computed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dogbreeds.data.folders import Photo
from dogbreeds.data.images import Transform, decode
from dogbreeds.features.engines.reference import TorchEngine

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Features:
    """Features of one split with its labels, and how they came about.

    Attributes:
        values: float32 of shape (photos, width), in the order of the index.
        labels: int64 of shape (photos,).
        computed: Photos that went through the trunk now.
        reused: Photos that were found in the cache.
    """

    values: Tensor
    labels: Tensor
    computed: int
    reused: int


def pixels(paths: Sequence[Path], transform: Transform, batch_size: int, workers: int | None) -> Iterator[Tensor]:
    """Yields uint8 batches (N, 3, H, W) in order; decoding of the next batch overlaps the caller's work."""

    def one(path: Path) -> Tensor:
        return transform(decode(path.read_bytes()))

    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    if workers == 0:
        yield from (torch.stack([one(path) for path in batch]) for batch in batches)
        return
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        pending = [pool.map(one, batch) for batch in batches[:1]]
        for following in [*batches[1:], None]:
            current = pending.pop()
            if following is not None:
                pending.append(pool.map(one, following))
            yield torch.stack(list(current))


def cache_key(photos: Sequence[Photo], trunk: str, transform: Transform, precision: str) -> str:
    """Names a set of features by everything that they depend on."""
    digest = hashlib.sha256(f"{trunk} {transform} {precision}\n".encode())
    for photo in photos:
        digest.update(photo.digest.encode())
    return digest.hexdigest()


def extract(
    photos: Sequence[Photo],
    engine: TorchEngine,
    transform: Transform,
    *,
    workers: int | None,
    key: str,
    cache: Path | None,
    progress: Progress,
) -> Features:
    """Returns the features of a split, from the cache where it holds these very ones.

    Args:
        photos: One split of the index.
        engine: Runs the trunk.
        transform: The backbone's evaluation transform.
        workers: Threads that decode; None is one per core, 0 is none.
        key: What `cache_key` says of these photos.
        cache: A .safetensors file, written when the pass is complete; None keeps nothing.
        progress: Called with (photos done, photos in all).
    """
    labels = torch.tensor([photo.label for photo in photos], dtype=torch.long)
    kept = _read(cache, key) if cache else None
    if kept is not None:
        return Features(kept, labels, computed=0, reused=len(photos))
    parts: list[Tensor] = []
    done = 0
    for batch in pixels([photo.path for photo in photos], transform, engine.batch_size, workers):
        parts.append(engine(batch))
        done += len(batch)
        progress(done, len(photos))
    values = torch.cat(parts)
    if cache:
        _write(cache, values, key)
    return Features(values, labels, computed=len(photos), reused=0)


def _read(path: Path, key: str) -> Tensor | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            values: Tensor = file.get_tensor("features")
            return values
    except (SafetensorError, OSError):
        # A damaged cache is computed again.
        return None


def _write(path: Path, values: Tensor, key: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}-{time.time_ns()}")
    save_file({"features": values.contiguous()}, temporary, metadata={"key": key})
    temporary.replace(path)
