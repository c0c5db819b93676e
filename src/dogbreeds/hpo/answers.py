"""What the trials of a search answered, photo by photo: whether one is clearly better than another."""

from functools import cache
from pathlib import Path

from dogbreeds.hpo.settings import Objective
from dogbreeds.model.paired import Paired
from dogbreeds.report.run import read_predictions, right_by_photo
from dogbreeds.run_directory import PREDICTIONS


class Answers:
    """The photos that each trial classified correctly, of the split that the objective is measured on.

    They are read from the predictions.csv of the trials, once; trials without one do not compare.
    """

    def __init__(self, directory: Path, objective: Objective) -> None:
        self._directory, self._split = directory, objective.split
        self._right = cache(self._read)

    def _read(self, trial: int) -> dict[str, bool]:
        return right_by_photo(read_predictions(self._directory / str(trial) / PREDICTIONS), self._split)

    def against(self, trial: int, best: int) -> Paired | None:
        """Compares a trial with the best one; None if they did not answer the same photos."""
        return Paired.by_photo(self._right(trial), self._right(best))
