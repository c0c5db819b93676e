"""The program of a job: the same work as on a workstation, with the paths and duties of a job."""

import logging
import os
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra import compose
from hydra.core.utils import configure_log
from omegaconf import DictConfig

from dogbreeds.composing import initialized
from dogbreeds.config import load, load_saved
from dogbreeds.errors import UserError
from dogbreeds.hpo.trial import run_trial
from dogbreeds.overrides import hydra_value
from dogbreeds.run_directory import RUN_CONFIG
from dogbreeds.sagemaker.job.callbacks import JobStopped, MetricLines, ParentWatch, SnapshotCallback
from dogbreeds.sagemaker.job.environment import OF_THE_MODEL, JobEnvironment, ddp_environment
from dogbreeds.sagemaker.job.features import export_features, import_features, with_precision_of
from dogbreeds.sagemaker.protocol.hyperparameters import FEATURES, SEARCH, TRAIN, TRIAL, Task, decode
from dogbreeds.sagemaker.protocol.inputs import FEATURES as FEATURES_CHANNEL
from dogbreeds.sagemaker.protocol.metrics import metric_line
from dogbreeds.sagemaker.protocol.snapshots import Snapshots, saving
from dogbreeds.schema import TrainConfig
from dogbreeds.training.features_only import prepare_features, prepare_share
from dogbreeds.training.preparation import Preparations
from dogbreeds.training.run import open_store, train
from dogbreeds.training.trainer import local_rank, quieten

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A job that runs, and began in that second since 1970; it has no snapshots without checkpoints."""

    environment: JobEnvironment
    task: Task
    snapshots: Snapshots | None
    began: float
    parent: ParentWatch

    def run(self) -> None:
        environment = self.environment
        os.environ.update(ddp_environment(environment.hosts, environment.host))
        first = local_rank() == 0
        if first:
            environment.work.mkdir(parents=True, exist_ok=True)
            if self.snapshots is not None and self.snapshots.restore():
                print("Resuming from the last checkpoint.", flush=True)
            if FEATURES_CHANNEL in environment.channels:
                import_features(environment.store, environment.channels[FEATURES_CHANNEL])
        work = {TRAIN: self._train, TRIAL: self._trial, FEATURES: self._features, SEARCH: self._search}
        work[self.task.kind]()
        if first:
            shutil.rmtree(environment.scratch, ignore_errors=True)

    def _config(self) -> TrainConfig:
        overrides = [*decode(self.environment.hyperparameters), *self.environment.overrides()]
        with initialized("train"):
            config = load(self._composed(overrides), overrides)
        return with_precision_of(config, self.environment.store)

    def _train(self) -> None:
        config, work = self._config(), self.environment.work
        if (work / RUN_CONFIG).is_file():
            # Keeps the engine and the precision of the first start; paths may have changed.
            config = replace(config, resume=str(work), features=load_saved(work / RUN_CONFIG).features)
        if self.environment.gpus > 1 and config.trainer.devices == "1":
            log.warning("Only one of %d GPUs is used: trainer=ddp uses all.", self.environment.gpus)
        between_epochs = SnapshotCallback(self.parent, self.snapshots, self.task.checkpoint_seconds)
        result = train(config, self.began, [MetricLines(), between_epochs])
        if result.metrics:
            print(metric_line(result.metrics), flush=True)
            self._publish(work / "model")

    def _trial(self) -> None:
        config = self._config()
        quieten()
        with open_store(config) as store:
            metrics = run_trial(config, Preparations(store).of(config), self._follow)
        print(metric_line(metrics), flush=True)

    def _features(self) -> None:
        with saving(self.snapshots, self.task.checkpoint_seconds):
            if len(self.environment.hosts) == 1:
                prepare_features(self._config())
            else:
                prepare_share(self._config(), self.environment.number, len(self.environment.hosts))
        export_features(self.environment.store, self.environment.data / FEATURES_CHANNEL)

    def _search(self) -> None:
        # Only a search has the packages that these need.
        from dogbreeds.hpo.local import search
        from dogbreeds.hpo.plan import Plan

        # The search itself chooses where trials are written.
        here = [one for one in self.environment.overrides() if not one.startswith("run_dir=")]
        with initialized("train") as loader:
            master = self._composed([])

            def composed(overrides: Sequence[str]) -> DictConfig:
                # Paths of this instance do not belong into the files of the search.
                return loader.load_sweep_config(master, [*overrides, *here])

            plan = Plan(self.task.arguments, composed, loader)
            with saving(self.snapshots, self.task.checkpoint_seconds):
                board = search(plan, self.environment.work)
        print(board.outcome)
        assert board.best is not None
        print(metric_line(board.best.metrics), flush=True)
        self._publish(self.environment.work / str(board.best.number) / "model")

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        """Composes conf/train.yaml, and starts the log in the run directory."""
        place = f"hydra.runtime.output_dir={hydra_value(str(self.environment.work))}"
        composed = compose("train", [*overrides, place], return_hydra_config=True)
        configure_log(composed.hydra.job_logging)
        return composed

    def _follow(self, row: dict[str, float]) -> bool:
        print(metric_line(row), flush=True)
        self.parent.check()
        return False

    def _publish(self, package: Path) -> None:
        """Moves the model package to the directory that becomes model.tar.gz; the rest stays in the output."""
        self.environment.model.mkdir(parents=True, exist_ok=True)
        for path in package.iterdir():
            shutil.move(path, self.environment.model / path.name)
        for name in OF_THE_MODEL:
            place = package.parent / name
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)


def main() -> None:
    """Runs a job; if it fails, writes the reason to where the service looks for it."""
    began = time.time()
    parent = ParentWatch()
    try:
        environment = JobEnvironment.of(os.environ)
    except UserError as error:
        sys.exit(str(error))
    try:
        task = Task.decode(environment.hyperparameters)
        Job(environment, task, environment.snapshots(task.kind), began, parent).run()
    except JobStopped as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except UserError as error:
        _fail(environment, str(error))
    except Exception as error:
        traceback.print_exc()
        _fail(environment, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")


def _fail(environment: JobEnvironment, reason: str) -> None:
    """Exits with a reason; the toolkit does not overwrite it."""
    print(reason, file=sys.stderr)
    environment.output.mkdir(parents=True, exist_ok=True)
    (environment.output / "failure").write_text(reason, encoding="utf-8")
    sys.exit(1)
