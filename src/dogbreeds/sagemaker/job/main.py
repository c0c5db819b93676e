"""What runs in a job: the same work as on a workstation, with the places and the duties of a job."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import configure_log
from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dogbreeds import entry
from dogbreeds.config import load, load_saved
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.hpo.trial import run_trial
from dogbreeds.overrides import hydra_value
from dogbreeds.run_directory import RUN_CONFIG
from dogbreeds.sagemaker.job.callbacks import Keeper, MetricLines, Orphaned, Parent
from dogbreeds.sagemaker.job.environment import Surroundings, together
from dogbreeds.sagemaker.job.features import in_stock, stock, unstock
from dogbreeds.sagemaker.protocol.hyperparameters import decode
from dogbreeds.sagemaker.protocol.inputs import FEATURES as FEATURES_CHANNEL
from dogbreeds.sagemaker.protocol.metrics import metric_line
from dogbreeds.sagemaker.protocol.snapshots import Snapshots, saving
from dogbreeds.sagemaker.protocol.task import FEATURES, SEARCH, TRAIN, TRIAL, Task
from dogbreeds.schema import TrainConfig
from dogbreeds.training.preparation import Preparations
from dogbreeds.training.run import open_store, prepare_features, train
from dogbreeds.training.trainer import local_rank, quieten

log = logging.getLogger(__name__)

_CONF = Path(__file__).resolve().parents[4] / "conf"
_PRIMARY = "train"
# What the archive of the model has, and what only a run that goes on needs.
_NOT_PUT_OUT = ("model", "model.tar.gz", "checkpoints")


@dataclass(frozen=True)
class Job:
    """One job at work.

    Attributes:
        around: What it has.
        task: What it is to do.
        snapshots: Keeps its work, if anything does.
        began: Seconds since 1970.
        parent: Who waits for it.
    """

    around: Surroundings
    task: Task
    snapshots: Snapshots | None
    began: float
    parent: Parent

    def run(self) -> None:
        """Does what it is to do.

        Raises:
            UserError: That cannot be done; the message says why.
        """
        around = self.around
        os.environ.update(together(around.hosts, around.host))
        first = local_rank() == 0
        if first:
            around.work.mkdir(parents=True, exist_ok=True)
            if self.snapshots is not None and self.snapshots.restore():
                print("Going on from the last checkpoint.", flush=True)
            if FEATURES_CHANNEL in around.channels:
                stock(around.store, around.channels[FEATURES_CHANNEL])
        work = {TRAIN: self._train, TRIAL: self._trial, FEATURES: self._features, SEARCH: self._search}
        work[self.task.kind]()
        if first:
            shutil.rmtree(around.scratch, ignore_errors=True)

    def _config(self) -> TrainConfig:
        overrides = [*decode(self.around.hyperparameters), *self.around.overrides()]
        with _hydra():
            composed = self._composed(overrides)
            config = load(composed, overrides)
        return in_stock(config, self.around.store)

    def _train(self) -> None:
        config, work = self._config(), self.around.work
        if (work / RUN_CONFIG).is_file():
            # The engine and the precision that were chosen once; the places may be others than before.
            config = replace(config, resume=str(work), features=load_saved(work / RUN_CONFIG).features)
        if self.around.gpus > 1 and config.trainer.devices == "1":
            log.warning("This machine has %d GPUs and one is used: trainer=ddp uses all.", self.around.gpus)
        result = train(config, self.began, [MetricLines(), Keeper(self.parent, self.snapshots, self._seconds)])
        if result.metrics:
            print(metric_line(result.metrics), flush=True)
            self._put_out(work / "model")

    def _trial(self) -> None:
        config = self._config()
        quieten()
        with open_store(config) as store:
            metrics = run_trial(config, Preparations(store).of(config), self._follow)
        print(metric_line(metrics), flush=True)

    def _features(self) -> None:
        prepare_features(self._config())
        unstock(self.around.store, self.around.data / FEATURES_CHANNEL)

    def _search(self) -> None:
        # These need the packages of a search, which no other job does.
        from dogbreeds.hpo.local import search
        from dogbreeds.hpo.plan import Plan

        # Where trials are written is the search's own to say.
        here = [one for one in self.around.overrides() if not one.startswith("run_dir=")]
        with _hydra() as loader:
            master = self._composed([])

            def composed(overrides: Sequence[str]) -> DictConfig:
                # The places of this machine are no part of what the search writes down of itself.
                return loader.load_sweep_config(master, [*overrides, *here])

            plan = Plan(self.task.arguments, composed, loader)
            with saving(self.snapshots, self._seconds):
                board = search(plan, self.around.work)
        print(board.outcome)
        assert board.best is not None
        print(metric_line(board.best.metrics or {}), flush=True)
        self._put_out(self.around.work / str(board.best.number) / "model")

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        """Composes conf/train.yaml, and begins to log where the work is."""
        place = f"hydra.runtime.output_dir={hydra_value(str(self.around.work))}"
        composed = compose(_PRIMARY, [*overrides, place], return_hydra_config=True)
        configure_log(composed.hydra.job_logging)
        return composed

    @property
    def _seconds(self) -> float:
        return self.task.checkpoint_seconds

    def _follow(self, row: dict[str, float]) -> bool:
        print(metric_line(row), flush=True)
        self.parent.check()
        return False

    def _put_out(self, package: Path) -> None:
        """Moves the model package to where the service takes it from, and leaves the rest as the output."""
        self.around.model.mkdir(parents=True, exist_ok=True)
        for path in package.iterdir():
            shutil.move(path, self.around.model / path.name)
        for name in _NOT_PUT_OUT:
            place = package.parent / name
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)


@contextmanager
def _hydra() -> Iterator[ConfigLoader]:
    """Makes conf/ known to Hydra, and its messages those of this project."""
    entry.register()
    try:
        with initialize_config_dir(str(_CONF), job_name=_PRIMARY, version_base="1.3"):
            yield GlobalHydra.instance().config_loader()
    except (CompactHydraException, OmegaConfBaseException) as error:
        raise ConfigError(entry.explain(error, _CONF / f"{_PRIMARY}.yaml")) from error


def main() -> None:
    """Does the work of a job, and leaves the reason where the service looks for it if it fails."""
    began = time.time()
    parent = Parent()
    try:
        around = Surroundings.of(os.environ)
    except UserError as error:
        sys.exit(str(error))
    try:
        Job(around, Task.decode(around.hyperparameters), around.snapshots(), began, parent).run()
    except Orphaned as error:
        # Nobody asks why, and the job did not fail.
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except UserError as error:
        _fail(around, str(error))
    except Exception as error:
        traceback.print_exc()
        _fail(around, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")


def _fail(around: Surroundings, reason: str) -> None:
    """Ends with the reason: the toolkit, which would write its own, leaves one that is there alone."""
    print(reason, file=sys.stderr)
    around.output.mkdir(parents=True, exist_ok=True)
    (around.output / "failure").write_text(reason, encoding="utf-8")
    sys.exit(1)
