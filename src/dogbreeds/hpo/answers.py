"""What the trials of a search answered, photo by photo: whether one is clearly better than another."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from dogbreeds.hpo.settings import Objective
from dogbreeds.model.paired import Paired
from dogbreeds.report.run import read_predictions, right_by_photo
from dogbreeds.run_directory import PREDICTIONS

#: Compares the first of two trials with the second, by their numbers; None if they did not answer the same photos.
Compare = Callable[[int, int], Paired | None]


def comparing(directory: Path, objective: Objective) -> Compare:
    """Returns what compares trials on the split of the objective; those without a predictions.csv do not compare."""

    @cache
    def right(trial: int) -> dict[str, bool]:
        return right_by_photo(read_predictions(directory / str(trial) / PREDICTIONS), objective.split)

    return lambda first, second: Paired.by_photo(right(first), right(second))
