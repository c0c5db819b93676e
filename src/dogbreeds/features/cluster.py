"""The pass on a Ray cluster: workers read photos from a folder that all machines see, and send features back.

Only the driver writes to the store. Ray starts a worker that is lost anew, elsewhere where its machine is gone, and
repeats its calls.
"""

import logging
import math
import queue
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dogbreeds.errors import DataError, UserError
from dogbreeds.features.engines import MAX_WORKERS, build
from dogbreeds.features.engines.reference import resolve_precision
from dogbreeds.features.extract import Extracted, Extractor, LocalExtractor
from dogbreeds.model.backbones import Trunk
from dogbreeds.model.network import Graph
from dogbreeds.schema import TrainConfig

# Of each worker: one computes while the features of the other are on their way.
_CALLS = 2
# Batches of each thread per call: a worker then asks the driver a few times a second.
_ROUNDS = 4
# A photo that ends so many workers ends the pass.
_LOSSES = 3
_ANSWER_SECONDS = 10.0


class _Worker:
    """A process that keeps one GPU, or up to 16 cores of a machine, busy with its threads."""

    def __init__(self, trunk: Trunk, settings: dict[str, Any], engine: str, workers: int) -> None:
        # Ray would let torch have one.
        torch.set_num_threads(workers)
        self._pool = ThreadPoolExecutor(workers)
        layers, transform = trunk.layers, trunk.transform
        built = build(engine, layers, trunk.fingerprint, transform, workers=workers, cache=None, **settings)
        self._extractor = LocalExtractor(built, transform)

    def photos(self) -> int:
        """Returns how many photos a call should have."""
        return _ROUNDS * self._extractor.workers * self._extractor.batch_size

    def extract(self, files: Mapping[str, Path], view: int) -> Extracted:
        items, size = list(files.items()), self._extractor.batch_size
        batches = [dict(items[start : start + size]) for start in range(0, len(items), size)]
        done = list(self._pool.map(lambda batch: self._extractor(batch, view), batches))
        features = [found for found, _ in done if len(found)]
        unreadable = {digest: reason for _, reasons in done for digest, reason in reasons.items()}
        return np.concatenate(features) if features else np.empty(0), unreadable


class _ClusterExtractor:
    """Gives each call to a worker that has fewer than two, from threads that wait for one call each."""

    def __init__(self, workers: list[Any], given: object) -> None:
        # Ray starts a lost worker with what the first one was given, as long as somebody refers to it.
        self._given = given
        self.batch_size, self.workers = max(_result([one.photos.remote() for one in workers])), _CALLS * len(workers)
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for worker in workers * _CALLS:
            self._idle.put(worker)

    def __call__(self, files: Mapping[str, Path], view: int) -> Extracted:
        absolute = {digest: path.absolute() for digest, path in files.items()}
        worker = self._idle.get()
        try:
            found: Extracted = _result(worker.extract.remote(absolute, view))
            return found
        finally:
            self._idle.put(worker)


@dataclass(frozen=True)
class Cluster:
    """The machines of a Ray cluster: what they compute on, in which precision, and where workers start."""

    device: torch.device
    precision: str
    #: For each worker its threads, and the options by which Ray places it.
    places: list[tuple[int, dict[str, Any]]]

    def extractor(self, trunk: Trunk, engine: str, batch_size: int | None, int8: Graph | None) -> Extractor:
        """Starts the workers, which end with what is returned."""
        import ray

        # They travel once to each machine, the weights among them.
        settings = {"device": self.device, "precision": self.precision, "batch_size": batch_size, "int8": int8}
        given = ray.put(trunk), ray.put(settings)
        actor: Any = ray.remote(_Worker)
        again = {"max_concurrency": _CALLS, "max_restarts": _LOSSES, "max_task_retries": _LOSSES}
        starting = [actor.options(**place, **again).remote(*given, engine, threads) for threads, place in self.places]
        return _ClusterExtractor(starting, given)


@contextmanager
def connect(address: str, config: TrainConfig) -> Iterator[Cluster]:
    """Connects to the running cluster that this machine is a part of, or says why its machines cannot be used."""
    import ray

    try:
        host, _, port = address.rpartition("/")[2].rpartition(":")
        if port.isdigit():
            # Ray itself would try for minutes.
            socket.create_connection((host, int(port)), _ANSWER_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"cluster.address={address}: no Ray cluster answers there ({error}). Start one with ray start --head, and "
            "let each further machine join: ray start --address=<the first one>:6379"
        ) from error
    try:
        device, places = _places(config)
        if not places:
            raise UserError(f"cluster.address={address}: none of its machines has cores for Ray (--num-cpus).")
        look: Any = ray.remote(_look)
        asked = Path(config.data.dir).absolute(), config.features.precision, device
        found = _result([look.options(**place).remote(*asked) for _, place in places])
        if len({precision for _, precision in found}) != 1:
            said = f"cluster.address={address}: the machines compute in different precisions ({dict(found)}), which"
            raise UserError(f"{said} never mix. Add features.precision=fp32, or let machines of one kind join.")
        yield Cluster(device, found[0][1], places)
    finally:
        ray.shutdown()


def _places(config: TrainConfig) -> tuple[torch.device, list[tuple[int, dict[str, Any]]]]:
    """One for each GPU of the cluster, or where there is none for every 16 cores or fewer of a machine."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    everything: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [(node["NodeID"], node["Resources"]) for node in everything if node["Alive"]]
    gpus = config.trainer.accelerator != "cpu" and any("GPU" in has for _, has in nodes)
    places = []
    for node, has in nodes:
        cores = int(has.get("CPU", 0))
        count = int(has.get("GPU", 0)) if gpus else math.ceil(cores / MAX_WORKERS)
        strategy = NodeAffinitySchedulingStrategy(node, soft=True)
        # No cores, or a worker would wait for its machine to come back.
        place = {"num_cpus": 0, "num_gpus": int(gpus), "scheduling_strategy": strategy}
        places += [(config.data.workers or max(1, cores // count), place) for _ in range(count)]
    return torch.device("cuda" if gpus else "cpu"), places


def _look(directory: Path, precision: str, device: torch.device) -> tuple[str, str]:
    """Returns the name of a machine, and what a requested precision is there."""
    name = socket.gethostname()
    if not directory.is_dir():
        said = f"data.dir={directory}: no such folder on {name}. All machines must see the photos under the same path:"
        raise DataError(f"{said} use a shared folder, or mount a bucket on each (mount-s3 <bucket> <folder>).")
    return name, resolve_precision(precision, device)


def _result(calls: Any) -> Any:
    """Returns what calls return; what a worker says to the person is raised as it is."""
    import ray

    try:
        return ray.get(calls)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, UserError) else error) from None
    except ray.exceptions.RayActorError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"A worker of the cluster does not start, or ended {_LOSSES + 1} times: {reason}") from error
