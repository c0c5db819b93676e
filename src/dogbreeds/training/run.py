"""One training run: `train(config)` turns folders of photos into an evaluated, packaged classifier."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback

from dogbreeds.config import save
from dogbreeds.data.kept import keep, named_files
from dogbreeds.debug.catalogue import Judgement, issues, verdict_of
from dogbreeds.debug.hook_settings import check_smdebug
from dogbreeds.debug.record import Facts, Matrix, Searched, read_confusion
from dogbreeds.debug.rules.results import learned_from
from dogbreeds.debug.timeline import Phases
from dogbreeds.directories import locked, new_run
from dogbreeds.errors import on_interrupt
from dogbreeds.features.store.store import FeatureStore
from dogbreeds.files import json_text, lines_beside, write_text
from dogbreeds.installation import command
from dogbreeds.machine import compute_threads, machine, versions
from dogbreeds.overrides import override
from dogbreeds.package.archive import archive_for
from dogbreeds.package.card import write_card
from dogbreeds.package.examples import choose, save_examples
from dogbreeds.package.explanation import pictures_of
from dogbreeds.package.package import load_package, save_package
from dogbreeds.package.predictor import Predictor
from dogbreeds.report.against_exact import by_how_much, exact_command
from dogbreeds.report.build import build_report
from dogbreeds.run_directory import AUDIT, INDEX, METRICS, MODEL, MODEL_ARCHIVE, PREDICTIONS, REPORT, RUN_CONFIG
from dogbreeds.schema import TrainConfig
from dogbreeds.training.checkpoints import SameStart, newest
from dogbreeds.training.evaluation import compare_fallback, describe, save_predictions, score
from dogbreeds.training.fitting import Report, fit, fit_exactly, fit_trial, threads_of
from dogbreeds.training.preparation import Prepared, prepare
from dogbreeds.training.trainer import is_first_process, new_callbacks, new_loggers, new_trainer, quieten
from dogbreeds.training.watching import Debugger

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """What a run left behind: metrics.json, and the command whose model is clearly better, by the exact solution.

    `metrics` are empty in all processes of a distributed run but the first, `exact` without such a command.
    """

    directory: Path
    metrics: dict[str, Any]
    judgements: tuple[Judgement, ...] = ()
    exact: str = ""

    @property
    def issues(self) -> tuple[str, ...]:
        return tuple(one.name for one in issues(self.judgements))

    def summary(self) -> str:
        """Returns the lines that the command ends with; none without metrics."""
        if not self.metrics:
            return ""
        predict = f"{command('predict')} {override('package', self.directory)} images=<photo, folder or glob>"
        words = {"learned_from": learned_from, "by_how_much": by_how_much, "verdict_of": verdict_of}
        names = {"index": INDEX, "report": REPORT}
        return "\n".join(lines_beside(__file__, "summary.txt", result=self, predict=predict, **words, **names))


class Run:
    """One run on prepared features, in four steps: `fit`, `score`, `package`, `report`.

    A single run takes all of them. A trial of a search takes the first two, and the best trial the others later.

    Attributes:
        config: With the engine and the precision that were chosen.
        network: Trunk, tail and head; trained after `fit`.
        metrics: The content of metrics.json, after `score`.
    """

    def __init__(self, config: TrainConfig, prepared: Prepared, phases: Phases | None = None) -> None:
        self._prepared, self._phases = prepared, phases or Phases()
        self._began = time.time()
        self.config = prepared.decided(config)
        self.directory = Path(config.run_dir)
        # Refuses other photos than before, while nothing of the run has been written over.
        self._resumed = newest(self.directory, SameStart(prepared.data)) if config.resume else None
        self.network = prepared.network(self.config)
        self.metrics: dict[str, Any] = {}
        self._description = describe(self.config, prepared, self.network)
        self._audited: dict[str, float] = {}
        self._epochs = 0
        with self._phases.phase("reference"):
            self.reference = prepared.reference(self.config, self.network.head)

    @cached_property
    def confusion(self) -> dict[str, Matrix]:
        """Counts of the answers in predictions.csv by split; after `score`."""
        return read_confusion(self.directory, self.metrics)

    def audit(self) -> None:
        """Looks for photos worth a look, and writes audit.csv."""
        with self._phases.phase("audit"):
            audit = self._prepared.audit(self.config, self.network.head)
            audit.save(self.directory / AUDIT)
        self._audited = audit.facts
        log.info("%s: %s", AUDIT, audit.summary())

    def facts(self, searched: Mapping[str, Searched] | None = None) -> Facts:
        """Returns what rules and report know of the run before its first step.

        `searched` says where the values of a search's best trial lie in the space.
        """
        folders, backbone = self._prepared.data.folders, self._prepared.data.backbone
        counts = folders.class_counts("train")
        return Facts(
            class_counts=dict(zip(folders.classes, counts, strict=True)),
            images=folders.counts(),
            in_several_splits=len(folders.leaks),
            unreadable=len(folders.unreadable),
            backbone=backbone.name,
            pretrained=backbone.pretrained,
            weights=backbone.weights,
            licence=backbone.licence,
            debug=self.config.trainer.one_batch,
            epochs=self.config.epochs,
            steps=self.config.epochs * -(-sum(counts) // self.config.batch_size),
            searched=searched or {},
            reference=self.reference.metrics,
            excluded=folders.excluded,
            audit=self._audited,
            versions=versions(),
            machine=machine(),
        )

    def fit(self, callbacks: Sequence[Callback] = (), report: Report | None = None) -> bool:
        """Trains the network, which ends with its best weights by validation loss.

        Says whether this process takes the next steps: of a distributed run only the first one does.
        """
        config, prepared, network = self.config, self._prepared, self.network
        # With the engine that was chosen: a resumed run must not choose again.
        save(config, self.directory / RUN_CONFIG)
        given = config, prepared.batches(config), network, prepared.class_weights(config)
        with self._phases.phase("training"):
            if config.optimizer == "exact":
                path = prepared.exact_path(config, network.head)
                history = fit_exactly(config, path, network, prepared.features.inputs)
            else:
                history = fit(*given, callbacks, self._resumed) if report is None else fit_trial(*given, report)
        if not is_first_process():
            return False
        self._epochs = len(history.rows)
        return True

    def score(self) -> None:
        """Calibrates and scores the predictor that the package will hold: `metrics` and predictions.csv."""
        with self._phases.phase("test"), compute_threads(threads_of(self.config)):
            predictor = Predictor(self._description, self.network, self._prepared.data.device)
            scores, probabilities = score(predictor, self._prepared.features.inputs)
            folders, exact = self._prepared.data.folders, self.reference
            save_predictions(self.directory / PREDICTIONS, folders, probabilities, exact.answers)
            answers = {split: predicted.argmax(dim=1) for split, predicted in probabilities.items()}
        self._description.temperature, self._description.known = scores["temperature"], scores["known"]
        data = self._prepared.data
        self.metrics = {
            **scores,
            **exact.metrics,
            **exact.against(answers),
            "classes": list(data.folders.classes),
            "images": data.folders.counts(),
            "unreadable": len(data.folders.unreadable),
            "excluded": data.folders.excluded,
            "in_several_splits": len(data.folders.leaks),
            "features": data.features.counts(),
            "epochs": self._epochs,
            "pretrained": data.backbone.pretrained,
            "debug": self.config.trainer.one_batch,
            "seconds": self.seconds(self._began),
        }

    def package(self, *, archive: bool = True) -> None:
        """Writes the model package with its model card, and with `archive` model.tar.gz."""
        self._prepared.data.folders.save(self.directory / INDEX)
        package, folders, count = self.directory / MODEL, self._prepared.data.folders, self.config.model.examples
        with self._phases.phase("package"):
            self._description.metrics = {name: value for name, value in self.metrics.items() if "/" in name}
            save_package(package, self._description, self._prepared.servable(self.network))
            # A package that cannot be loaded is never handed on.
            load_package(package)
            if count:
                save_examples(package, choose(folders, count), folders.classes)
            if self._description.int8:
                compare_fallback(package, self._prepared.store.blobs)
            write_card(package, folders, self.metrics, self.confusion["test"])
            if archive:
                archive_for(package, self.directory / MODEL_ARCHIVE, gpus=0, requirements=True)

    def report(self, judgements: Sequence[Judgement]) -> RunResult:
        """Writes metrics.json, which marks a run as complete, and the report."""
        self.save_metrics()
        build_report(self.directory, explain=partial(pictures_of, self.directory / MODEL))
        better = exact_command(asdict(self.config), self.metrics)
        return RunResult(self.directory, self.metrics, tuple(judgements), better)

    def save_metrics(self) -> None:
        write_text(self.directory / METRICS, json_text(self.metrics) + "\n")

    def seconds(self, began: float) -> dict[str, float]:
        """Returns what metrics.json says of the time since `began`, in seconds since 1970."""
        return {
            "features": round(self._phases.seconds("index", "backbone", "features"), 2),
            "training": round(self._phases.seconds("training"), 2),
            "total": round(time.time() - began, 2),
        }


def train(config: TrainConfig, began: float | None = None, callbacks: Sequence[Callback] = ()) -> RunResult:
    """Trains, evaluates and packages one classifier.

    Args:
        config: A checked config, as `dogbreeds.config.load` returns it.
        began: When the program was started, in seconds since 1970, for the report; None is now.
        callbacks: Listen to the training beside those that the config asks for.

    Returns:
        The run directory and its metrics, which are empty in all processes of a distributed run but the first.

    Raises:
        UserError: The data or the weights cannot be used, or Ctrl-C: the message says why, or how to continue.
    """
    began = time.time() if began is None else began
    if config.debugger.smdebug:
        check_smdebug()
    quieten()
    # Mistakes in them are told before photos are read.
    new_trainer(config)
    new_loggers(config)
    new_callbacks(config)
    first, run_dir = is_first_process(), Path(config.run_dir)
    own = (locked if config.resume else new_run)(run_dir) if first else nullcontext()
    with on_interrupt(f"Stopped. Continue with: {command('train')} {override('resume', run_dir)}"):
        with own, Debugger(config, began, first=first) as debugger, open_store(config) as store:
            if not config.resume:
                keep(named_files(config.data), run_dir)
                # So that a run which is stopped while it computes features can be resumed.
                save(config, run_dir / RUN_CONFIG)
            prepared = prepare(config, store, debugger.phases, None if config.resume else run_dir / INDEX)
            run = Run(config, prepared, debugger.phases)
            if first:
                run.audit()
            debugger.set_facts(run.facts())
            if not run.fit([*debugger.callbacks(), *callbacks]):
                return RunResult(run.directory, {})
            run.score()
            run.package()
            run.metrics["seconds"] = run.seconds(began)
            judgements = debugger.finish(run.metrics, run.confusion)
        return run.report(judgements)


def open_store(config: TrainConfig) -> FeatureStore:
    return FeatureStore(Path(config.cache.dir), config.cache.max_gb * 1e9)
