"""The progress of a search on the terminal: a line for each trial."""

from __future__ import annotations

from dogbreeds.hpo.leaderboard import FINISHED, Entry, Leaderboard


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


def shown(value: float | str | None) -> str:
    """Returns a value for display: numbers have four digits."""
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.4g}"
