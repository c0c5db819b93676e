"""The progress of a search: a live table on a terminal, a line per trial elsewhere."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack

from rich.console import Console
from rich.live import Live
from rich.table import Table

from dogbreeds.hpo.leaderboard import FINISHED, Entry, Leaderboard
from dogbreeds.hpo.settings import Objective
from dogbreeds.hpo.space import Values

log = logging.getLogger(__name__)

_MAX_ROWS = 10


class Screen:
    """Shows the trials of a search as they end."""

    def __init__(self, objective: Objective, wanted: int, entries: list[Entry]) -> None:
        self._objective, self._wanted, self._entries = objective, wanted, list(entries)
        self._running: tuple[int, Values] | None = None
        self._live: Live | None = None
        self._leaving = ExitStack()

    def __enter__(self) -> Screen:
        if sys.stdout.isatty():
            self._live = self._leaving.enter_context(Live(console=Console(), get_renderable=self._renderable))
            for handler in logging.getLogger().handlers:
                if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.__stdout__, sys.__stderr__):
                    # Rich has replaced the standard streams by its own, which know where the table is.
                    before = handler.setStream(sys.stdout)
                    self._leaving.callback(handler.setStream, before)
        return self

    def __exit__(self, *_: object) -> None:
        self._running = None
        self._leaving.close()

    def started(self, number: int, values: Values) -> None:
        self._running = (number, values)

    def finished(self, entry: Entry) -> None:
        self._running = None
        self._entries.append(entry)
        if self._live is None:
            log.info(self._line(entry))

    def _line(self, entry: Entry) -> str:
        best = Leaderboard.of(self._objective, self._entries).best
        parts = [
            f"{len(self._entries):>{len(str(self._wanted))}}/{self._wanted}  trial {entry.number}",
            _settings(entry.values),
            f"{self._objective.name} {shown(entry.value)}" if entry.state == FINISHED else entry.state,
            entry.message or (f"best {shown(best.value)} of trial {best.number}" if best else ""),
        ]
        return "  ".join(part for part in parts if part)

    def _renderable(self) -> Table:
        result = table(Leaderboard.of(self._objective, self._entries))
        result.caption = f"{len(self._entries)} of {self._wanted} trials"
        if self._running is not None:
            number, values = self._running
            result.caption += f", running {number}: {_settings(values)}"
        return result


def _settings(values: Values) -> str:
    return " ".join(f"{name}={shown(value)}" for name, value in values.items())


def table(board: Leaderboard) -> Table:
    """Returns the first trials of a leaderboard as a table."""
    names = list(dict.fromkeys(name for entry in board.entries for name in entry.values))
    result = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("trial", board.objective.name, *names, "epochs", "seconds"):
        result.add_column(column, justify="right")
    result.add_column("")
    for entry in board.entries[:_MAX_ROWS]:
        cells = [shown(entry.values.get(name)) for name in names]
        remark = "best" if entry is board.best else "" if entry.state == FINISHED else entry.state
        numbers = (str(entry.epochs), f"{entry.seconds:.1f}")
        style = "bold green" if entry is board.best else "" if entry.state == FINISHED else "dim"
        result.add_row(str(entry.number), shown(entry.value), *cells, *numbers, remark, style=style)
    left = len(board.entries) - _MAX_ROWS
    if left > 0:
        result.add_row("", f"and {left} more")
    return result


def shown(value: float | str | None) -> str:
    """Returns a value for display: numbers have four digits."""
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.4g}"
