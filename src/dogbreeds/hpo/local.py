"""A search on this machine: all trials in one process, over one feature store, with every result kept at once."""

import logging
import math
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from dogbreeds.directories import locked
from dogbreeds.errors import PlaceError, UserError, on_interrupt
from dogbreeds.formats import shown
from dogbreeds.hpo.answers import comparing
from dogbreeds.hpo.backbones import advice, candidates
from dogbreeds.hpo.leaderboard import FAILED, FINISHED, INTERRUPTED, NAN, PRUNED, Entry, Leaderboard, save_best
from dogbreeds.hpo.optuna_engine import OptunaEngine
from dogbreeds.hpo.page import build_search_page
from dogbreeds.hpo.plan import Plan
from dogbreeds.hpo.resuming import save_plan
from dogbreeds.hpo.space import Values
from dogbreeds.hpo.trial import package_trial, run_trial
from dogbreeds.installation import command
from dogbreeds.overrides import override
from dogbreeds.run_directory import BEST, ERROR, LEADERBOARD, REPORT, START
from dogbreeds.training.checkpoints import SameStart
from dogbreeds.training.fitting import NeverFiniteError
from dogbreeds.training.preparation import Preparations
from dogbreeds.training.run import open_store
from dogbreeds.training.trainer import quieten

log = logging.getLogger(__name__)


def search(plan: Plan, directory: Path) -> Leaderboard:
    """Runs the trials of a search that are left, and writes leaderboard.csv, best.yaml and search.html.

    Raises:
        UserError: No trial can be run, or none finished, or Ctrl-C: then results so far are kept and written.
    """
    quieten()
    again = f"Stopped. Continue with: {command('train')} -m {override('resume', directory)}"
    with on_interrupt(again), locked(directory), open_store(plan.first(directory)) as store:
        plan.keep_files(directory)
        save_plan(plan, directory)
        engine = OptunaEngine(directory, plan.space, plan.settings, seed=plan.seed, epochs=plan.epochs)
        running = RunningSearch(plan, directory, engine, Preparations(store))
        try:
            running.run()
        except KeyboardInterrupt:
            if running.board().best is not None:
                log.info("%s", running.finish().outcome)
            raise
        return running.finish()


class RunningSearch:
    """The trials of one search."""

    def __init__(self, plan: Plan, directory: Path, engine: OptunaEngine, preparations: Preparations) -> None:
        self._plan, self._directory = plan, directory
        self._engine, self._preparations = engine, preparations
        self._compare = comparing(directory, engine.objective)

    def run(self) -> None:
        """Runs one trial after the other until there are as many as were asked for."""
        if self._plan.prepares_once:
            # Otherwise one trial may fail at what another does not need.
            first = self._plan.first(self._directory)
            SameStart(self._preparations.of(first).data).keep(self._directory / START)
        for number, values in self._engine.trials(self._plan.defaults()):
            entry = Entry(number, INTERRUPTED, values)
            try:
                entry = self._trial(number, values)
            finally:
                self._engine.tell(entry)
            log.info(trial_line(entry, self.board(), len(self._engine.done()), self._engine.wanted()))

    def board(self) -> Leaderboard:
        """Returns the results so far, and writes leaderboard.csv and best.yaml."""
        engine, debug = self._engine, self._plan.debug
        board = Leaderboard.of(engine.objective, engine.entries(), self._directory, debug=debug, compare=self._compare)
        board.save(self._directory / LEADERBOARD)
        if board.best is not None:
            overrides = self._plan.overrides(board.best.values)
            save_best(self._directory / BEST, board.best, board.objective, overrides)
        return board

    def finish(self) -> Leaderboard:
        """Gives the best trial its package and report, and writes the leaderboard and the page."""
        board = self.board()
        best = board.winner(self._directory)
        self._package(self._directory / str(best.number), best.values)
        found = candidates(board, self._plan, self._preparations)
        build_search_page(board, self._plan.space, found)
        return replace(board, advice=tuple(advice(found)))

    def _package(self, best: Path, values: Values) -> None:
        if (best / REPORT).is_file():
            return
        try:
            package_trial(best, self._preparations, self._plan.space, values)
        except (UserError, OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            # The trial's files were changed or removed; the search itself is still worth showing.
            again = f"{command('train')} {override('best_of', self._directory)}"
            log.warning("%s cannot be packaged (%s). Run its values again: %s", best, error, again)

    def _trial(self, number: int, values: Values) -> Entry:
        began = time.perf_counter()
        directory = self._directory / str(number)
        progress = Progress(self._engine, number)
        metrics: dict[str, Any] = {}
        message = ""
        try:
            config = self._plan.config(values, directory)
            progress.max_epochs = config.epochs
            metrics = run_trial(config, self._preparations.of(config), progress)
            state = PRUNED if progress.pruned else FINISHED
        except (BrokenPipeError, PlaceError):
            raise
        except NeverFiniteError as error:
            state, message = NAN, str(error)
        except UserError as error:
            state, message = FAILED, str(error)
        except Exception as error:
            # One bad trial must not end the search.
            directory.mkdir(parents=True, exist_ok=True)
            (directory / ERROR).write_text(traceback.format_exc(), encoding="utf-8")
            state, message = FAILED, f"{type(error).__name__}: {error} (see {directory / ERROR})"
        numbers = {name: value for name, value in metrics.items() if "/" in name and isinstance(value, float | int)}
        value = numbers.get(self._engine.objective.name)
        if state == FINISHED and (value is None or not math.isfinite(value)):
            state, message = NAN, f"{self._engine.objective.name} is {value}"
        epochs = metrics.get("epochs", progress.epochs)
        seconds = round(time.perf_counter() - began, 2)
        return Entry(number, state, values, value, numbers, epochs, seconds, message)


def trial_line(entry: Entry, board: Leaderboard, done: int, wanted: int) -> str:
    """Returns what became of a trial, the last of `done` ones, and which is the best so far."""
    best = board.best
    parts = [
        f"{done:>{len(str(wanted))}}/{wanted}  trial {entry.number}",
        " ".join(f"{name}={shown(value)}" for name, value in entry.values.items()),
        f"{board.objective.name} {shown(entry.value)}" if entry.state == FINISHED else entry.state,
        entry.message or (f"best {shown(best.value)} of trial {best.number}" if best else ""),
    ]
    return "  ".join(part for part in parts if part)


class Progress:
    """Follows a trial from epoch to epoch, and decides whether it is stopped early."""

    def __init__(self, engine: OptunaEngine, number: int) -> None:
        self._engine, self._number = engine, number
        self._best: float | None = None
        self.max_epochs, self.epochs, self.pruned = 0, 0, False

    def __call__(self, row: dict[str, float]) -> bool:
        """Takes a row of the history; True ends the trial."""
        self.epochs = int(row["epoch"])
        objective, value = self._engine.objective, row.get(self._engine.objective.name, math.nan)
        if not math.isfinite(value):
            return False
        # A trial is worth its best epoch.
        self._best = value if self._best is None else min(self._best, value, key=objective.rank)
        # After its last epoch there is nothing left to stop.
        self.pruned = self.epochs < self.max_epochs and self._engine.stops(self._number, self.epochs, self._best)
        return self.pruned
