"""The key numbers of a run."""

from collections.abc import Mapping
from typing import Any

from dogbreeds.debug.rules.results import against_exact
from dogbreeds.formats import counted
from dogbreeds.report.against_exact import difference, settling
from dogbreeds.report.run import Run
from dogbreeds.report.sections import Section
from dogbreeds.report.sections.learning import best_epoch


def numbers(run: Run) -> Section:
    """Returns the section of a finished run, or of one with an epoch, whose best and last ones are shown."""
    history = run.history
    content = {
        "metrics": run.metrics,
        "exact": _exact(run.metrics),
        "best": history[best_epoch(history)] if history else {},
        "last": history[-1] if history else {},
        "epochs": run.config.get("epochs", 0),
    }
    return Section("numbers", "Key numbers", content, "" if run.metrics or history else "no epoch has finished yet")


def _exact(metrics: Mapping[str, Any]) -> str:
    """Returns the trained head and the exact solution on the same test photos, in words."""
    pair = against_exact(metrics, "test")
    if pair is None:
        return ""
    found = f"Only the exact linear solution gets {counted(pair.second, 'test photo')} right"
    found += f", only the trained head {pair.first}"
    if pair.difference:
        found += f": the trained head has {difference(pair)}"
    more = settling(pair)
    return f"{found}; {more}." if more else f"{found}."
