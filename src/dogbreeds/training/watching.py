"""Everything that watches one run: recorder, rules, sampler, timeline, trace and the live report."""

import logging
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from pytorch_lightning.callbacks import Callback

from dogbreeds.config import load_saved
from dogbreeds.debug.catalogue import Judgement, verdict_of, watching_rules
from dogbreeds.debug.hook import SmdebugHook
from dogbreeds.debug.measurements import START_UP, Measurements, Phase
from dogbreeds.debug.record import Facts, Matrix, Record, read_record
from dogbreeds.debug.recorder import Recorder
from dogbreeds.debug.rules.classes import StalledTrainingRule
from dogbreeds.debug.system.sampler import SystemSampler
from dogbreeds.debug.timeline import Phases, StepTimeline
from dogbreeds.debug.trace import Tracer
from dogbreeds.debug.watch import Judge, StallWatch, Watch
from dogbreeds.errors import ConfigError
from dogbreeds.package.explanation import pictures_of
from dogbreeds.report.build import build_report
from dogbreeds.run_directory import MODEL, RUN_CONFIG, SYSTEM, TENSORS
from dogbreeds.schema import TrainConfig

log = logging.getLogger(__name__)


class Debugger:
    """Watches a run from start to end, and leaves a report even if the run fails."""

    def __init__(self, config: TrainConfig, began: float, *, first: bool) -> None:
        self._config, self._began, self._first = config, began, first
        self._run_dir = Path(config.run_dir)
        self._watched = ExitStack()
        self.phases = Phases(self._run_dir if first else None)
        self._rules = watching_rules(config.debugger) if first else {}
        self._record = Record(measurements=Measurements(phases=self.phases.ended))
        self._judge = Judge(self._run_dir, self._record, self._rules)

    def __enter__(self) -> Self:
        seconds = self._config.profiler.system_seconds
        if self._first and seconds:
            sampler = self._watched.enter_context(SystemSampler(self._run_dir / SYSTEM, seconds))
            self._record.measurements = replace(self._record.measurements, samples=sampler.samples)
        self.phases.add(Phase(START_UP, self._began, time.time()))
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._watched.close()
        self.phases.close()
        # Where a disk is full, there is no room for a report either.
        if self._first and not isinstance(error, OSError | None) and self._record.facts.images:
            self._judge.look(running=False)
            log.warning("The run did not finish. A report on what it did: %s", build_report(self._run_dir))

    def set_facts(self, facts: Facts) -> None:
        self._record.facts = facts
        if self._first:
            facts.save(self._run_dir)

    def callbacks(self) -> list[Callback]:
        """Returns the callbacks that watch the training, in the order in which they must be called."""
        debugger, profiler = self._config.debugger, self._config.profiler
        found: list[Callback] = []
        if profiler.steps:
            timeline = StepTimeline(self._run_dir, self.phases, gpu_every=debugger.train_every)
            self._record.measurements = replace(self._record.measurements, steps=timeline.steps)
            found.append(timeline)
        if debugger.record:
            found.append(Recorder(self._run_dir, self._record, debugger))
        if debugger.smdebug:
            found.append(SmdebugHook(self._run_dir / TENSORS, debugger.train_every, debugger.eval_every))
        if profiler.trace_steps:
            found.append(Tracer(self._run_dir, profiler.trace_steps))
        stop = debugger.on_issue == "stop"
        rule = self._rules.get(StalledTrainingRule.__name__)
        stalls = StallWatch(rule, self._record, stop=stop) if isinstance(rule, StalledTrainingRule) else None
        return [*found, Watch(self._judge, partial(build_report, self._run_dir, live=True), stalls, stop=stop)]

    def finish(self, metrics: dict[str, Any], confusion: dict[str, Matrix]) -> list[Judgement]:
        self._record.metrics, self._record.confusion = metrics, confusion
        return self._judge.look(running=False)


def report_again(run_dir: Path) -> str:
    """Applies the rules of a run's config to its record once more, and rebuilds its report."""
    saved = run_dir / RUN_CONFIG
    if not saved.is_file():
        raise ConfigError(f"run={run_dir}: no {RUN_CONFIG} there, so it is not a run directory of train.py.")
    rules = watching_rules(load_saved(saved).debugger)
    judgements = Judge(run_dir, read_record(run_dir), rules).look(running=False)
    report = build_report(run_dir, explain=partial(pictures_of, run_dir / MODEL))
    return f"rules  {verdict_of(judgements)}\nreport {report}"
