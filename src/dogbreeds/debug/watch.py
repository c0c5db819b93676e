"""Judges a run while it lasts: warns of an issue as soon as it shows, and ends the run if that is wanted."""

import _thread
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from dogbreeds.debug.catalogue import Judgement, issues, judge, save_judgements
from dogbreeds.debug.record import Record
from dogbreeds.debug.rules.classes import StalledTrainingRule
from dogbreeds.debug.rules.verdict import ISSUES, Rule

log = logging.getLogger(__name__)

# Shares of a run's time. A run that an issue is to stop is judged more often.
_WARN_SHARE, _STOP_SHARE, _REPORT_SHARE = 0.005, 0.05, 0.005
_SECONDS_BETWEEN_REPORTS = 60.0
# Time between two checks for a stall, as a share of the time that counts as one.
_STALL_CHECKS = 0.05


class Judge:
    """The rules of a run; each warns once."""

    def __init__(self, run_dir: Path, record: Record, rules: Mapping[str, Rule]) -> None:
        self._run_dir, self._record, self._rules = run_dir, record, rules
        self._warned: set[str] = set()

    def look(self, *, running: bool) -> list[Judgement]:
        """Judges what was recorded so far, writes rules.json, and warns of new issues.

        While the run is running, the time since its last step counts.
        """
        if not self._rules:
            return []
        self._record.now = time.time() if running else None
        found = judge(self._rules, self._record)
        save_judgements(self._run_dir, found)
        for one in issues(found):
            if one.name not in self._warned:
                self._warned.add(one.name)
                log.warning("%s: %s. %s", one.name, one.verdict.message, one.verdict.advice)
        return found


class Pace:
    """Says when work is due that must not take more than a share of the run's time.

    The first time it is due at once, then after so many seconds at least.
    """

    def __init__(self, share: float, seconds: float = 0.0) -> None:
        self._share, self._seconds = share, seconds
        self._next = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._next

    @contextmanager
    def doing(self) -> Iterator[None]:
        """Times the work, and sets when it is due again."""
        began = time.monotonic()
        yield
        ended = time.monotonic()
        self._next = ended + max(self._seconds, (ended - began) / self._share)


class StallWatch:
    """Checks from a thread of its own that there are new steps: a run that hangs cannot say so itself.

    With `stop` a stall interrupts the run, as Ctrl-C does.
    """

    def __init__(self, rule: StalledTrainingRule, record: Record, *, stop: bool) -> None:
        self._rule, self._record, self._stop = rule, record, stop
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stall watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
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
    """Judges a run and updates its report while it trains, in a negligible part of its time.

    With `stop` the first issue ends the run.
    """

    def __init__(self, judge: Judge, report: Callable[[], Any], stalls: StallWatch | None, *, stop: bool) -> None:
        self._judge, self._report, self._stalls, self._stop = judge, report, stalls, stop
        self._judging = Pace(_STOP_SHARE if stop else _WARN_SHARE)
        self._reporting = Pace(_REPORT_SHARE, _SECONDS_BETWEEN_REPORTS)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the stall watch, and the time until the first report."""
        if self._stalls is not None:
            self._stalls.start()
        with self._reporting.doing():
            pass

    def on_fit_end(self, *args: Any, **kwargs: Any) -> None:
        if self._stalls is not None:
            self._stalls.end()

    on_exception = on_fit_end

    def _look(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.is_global_zero and not trainer.should_stop:
            self._judge_and_report(trainer)
        if self._stop and trainer.world_size > 1:
            # All processes must leave the loop at the same step, or they would wait for each other forever.
            trainer.should_stop = trainer.strategy.reduce_boolean_decision(trainer.should_stop, all=False)

    on_train_batch_end = on_validation_end = _look

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
