"""Judges a run while it lasts: says what is wrong as soon as it shows, and ends the run where that is wanted."""

from __future__ import annotations

import _thread
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from dogbreeds.debug.catalogue import Judgement, issues, judge, save_judgements
from dogbreeds.debug.pace import Pace
from dogbreeds.debug.record import Record
from dogbreeds.debug.rules.classes import StalledTrainingRule
from dogbreeds.debug.rules.verdict import ISSUES, Rule

log = logging.getLogger(__name__)

# Shares of a run's time. A run that is to be stopped is worth looking at more often.
_TELLING, _STOPPING, _REPORTING = 0.005, 0.05, 0.005
_SECONDS_BETWEEN_REPORTS = 60.0
# How often it is looked whether a run stalls, as a share of the time that counts as one.
_STALL_CHECKS = 0.05


class Judge:
    """The rules of a run, which speak of the same issue once."""

    def __init__(self, run_dir: Path, record: Record, rules: Mapping[str, Rule]) -> None:
        """Takes the rules, and the record that they look at."""
        self._run_dir, self._record, self._rules = run_dir, record, rules
        self._told: set[str] = set()

    def look(self, *, running: bool) -> list[Judgement]:
        """Judges what there is by now, writes rules.json, and warns of what is new.

        Args:
            running: The run goes on, so that time that passes is part of the record.
        """
        if not self._rules:
            return []
        self._record.now = time.time() if running else None
        found = judge(self._rules, self._record)
        save_judgements(self._run_dir, found)
        for one in issues(found):
            if one.name not in self._told:
                self._told.add(one.name)
                log.warning("%s: %s. %s", one.name, one.verdict.message, one.verdict.advice)
        return found


class StallWatch:
    """Looks from a thread of its own whether steps still come: a run that hangs cannot say so itself."""

    def __init__(self, rule: StalledTrainingRule, record: Record, *, stop: bool) -> None:
        """Takes the rule.

        Args:
            rule: When it is a stall.
            record: Of the run.
            stop: A stall interrupts the run, as Ctrl-C does.
        """
        self._rule, self._record, self._stop = rule, record, stop
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stall watch", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def end(self) -> None:
        """Looks no longer."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._rule.threshold * _STALL_CHECKS):
            rows = self._record.rows[-1:]
            found = self._rule.judge(Record(rows, measurements=self._record.measurements, now=time.time()))
            if found.status == ISSUES:
                log.warning("%s: %s. %s", type(self._rule).__name__, found.message, found.advice)
                if self._stop:
                    _thread.interrupt_main()
                return


class Watch(pl.Callback):
    """Has a run judged again and again, and its report written, without taking a noticeable part of its time."""

    def __init__(self, judge: Judge, report: Callable[[], Any], stalls: StallWatch | None, *, stop: bool) -> None:
        """Takes what to do.

        Args:
            judge: The rules.
            report: Writes the report as it is by now.
            stalls: Looks whether steps still come.
            stop: The first issue ends the run.
        """
        self._stalls = stalls
        self._judge, self._report, self._stop = judge, report, stop
        self._judging = Pace(_STOPPING if stop else _TELLING)
        self._reporting = Pace(_REPORTING, _SECONDS_BETWEEN_REPORTS)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clocks: the first report is worth its time after a while only."""
        if self._stalls is not None:
            self._stalls.start()
        with self._reporting.doing():
            pass

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Looks at what the last steps brought."""
        self._look(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks at what the last validation brought."""
        self._look(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks for stalls no longer."""
        self._end()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Does the same for a run that was stopped."""
        self._end()

    def _end(self) -> None:
        if self._stalls is not None:
            self._stalls.end()

    def _look(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero and not trainer.should_stop:
            self._judge_and_report(trainer)
        if self._stop and trainer.world_size > 1:
            # All processes must leave the loop at the same step, or they would wait for each other for ever.
            trainer.should_stop = trainer.strategy.reduce_boolean_decision(trainer.should_stop, all=False)

    def _judge_and_report(self, trainer: pl.Trainer) -> None:
        if self._judging.due:
            with self._judging.doing():
                found = issues(self._judge.look(running=True))
            if found and self._stop:
                names = " and ".join(one.name for one in found)
                log.warning("debugger.on_issue=stop: training ends here because of %s.", names)
                trainer.should_stop = True
        if self._reporting.due:
            with self._reporting.doing():
                self._report()
