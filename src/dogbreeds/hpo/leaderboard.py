"""The result of a search: its trials, leaderboard.csv and best.yaml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import platformdirs

from dogbreeds.config import read_yaml, write_yaml
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.files import lines_beside, write_csv, write_text
from dogbreeds.formats import counted
from dogbreeds.hpo.answers import Compare
from dogbreeds.hpo.settings import Objective
from dogbreeds.hpo.space import Values
from dogbreeds.installation import command
from dogbreeds.model.paired import Paired
from dogbreeds.overrides import hydra_value, name_of, override
from dogbreeds.run_directory import BEST, KEPT, LEADERBOARD, MODEL, REPORT, SEARCH_PAGE

FINISHED, PRUNED, FAILED, NAN, INTERRUPTED = "finished", "pruned", "failed", "nan", "interrupted"
# Of best.yaml. Before the second, runs had another recipe, which a searched lr belongs to.
_FORMAT = 2
_SHOWN_METRICS = ("val/loss", "val/accuracy")


@dataclass(frozen=True)
class Entry:
    """One trial of a search.

    Attributes:
        state: `finished`; `pruned`, stopped because others were better; `nan`, its loss was never a number; `failed`
            with an error; `interrupted`, its process was stopped or killed.
        value: Of the objective; of a pruned trial the best it had reached.
    """

    number: int
    state: str
    values: Values
    value: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class Leaderboard:
    """The trials of a search: finished ones from the best to the worst, then the others by number.

    Attributes:
        debug: The trials saw one batch of the photos.
        pairs: By number, finished trials against the best one, on the photos that the objective is measured on.
        advice: Lines about the backbone to take, where there were several.
    """

    objective: Objective
    entries: Sequence[Entry]
    directory: Path = Path()
    debug: bool = False
    pairs: Mapping[int, Paired] = field(default_factory=dict)
    advice: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        objective: Objective,
        entries: Sequence[Entry],
        directory: Path = Path(),
        *,
        debug: bool = False,
        compare: Compare | None = None,
    ) -> Self:
        """Sorts entries; of two equal ones the earlier is better. With `compare` they are compared photo by photo."""

        def place(entry: Entry) -> tuple[int, float, int]:
            if entry.state != FINISHED or entry.value is None:
                return (1, 0.0, entry.number)
            return (0, objective.rank(entry.value), entry.number)

        board = cls(objective, sorted(entries, key=place), directory, debug)
        if compare is None or board.best is None:
            return board
        best = board.best.number
        found = {entry.number: compare(entry.number, best) for entry in board.finished}
        return replace(board, pairs={number: pair for number, pair in found.items() if pair is not None})

    @property
    def finished(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.state == FINISHED]

    @property
    def best(self) -> Entry | None:
        return next(iter(self.finished), None)

    def winner(self, search: object) -> Entry:
        """Returns the best trial; raises a UserError about a search where none finished."""
        if self.best is None:
            failed = next((entry for entry in self.entries if entry.message), None)
            reason = f" Trial {failed.number}: {failed.message}" if failed else ""
            raise UserError(f"No trial of {search} finished ({self.summary()}).{reason}")
        return self.best

    def against_best(self, entry: Entry) -> str:
        """Returns `best`, or whether a trial is clearly `worse` or `better`, or the `same`; empty if unknown.

        It is about photos classified correctly, of which the trial with the lowest loss may not have the most.
        """
        if entry is self.best:
            return "best"
        pair = self.pairs.get(entry.number)
        if pair is None:
            return ""
        return "same" if not pair.clear else "worse" if pair.difference < 0 else "better"

    @property
    def standing(self) -> str:
        """How many trials are not clearly worse than the best one; empty if nobody compared them."""
        others = [entry for entry in self.finished if entry is not self.best and entry.number in self.pairs]
        if not others:
            return ""
        equal = [entry for entry in others if self.against_best(entry) != "worse"]
        photos = self.pairs[others[0].number].photos
        split = "test" if self.objective.split == "test" else "validation"
        return f"not clearly worse on the {photos} {split} photos: {len(equal)} of {counted(len(others), 'other')}"

    def summary(self) -> str:
        """Returns the number of trials in each state, such as `3 finished, 1 failed`."""
        states = [entry.state for entry in self.entries]
        return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))

    def headline(self) -> str:
        best = self.winner(self.directory)
        values = " ".join(f"{name}={value}" for name, value in best.values.items())
        return f"{self.summary()}; best: trial {best.number} with {self.objective.name} {best.value:.4f}, {values}"

    @property
    def outcome(self) -> str:
        again = f"{command('train')} {override('best_of', self.directory)}"
        names = {"leaderboard": LEADERBOARD, "page": SEARCH_PAGE, "model": MODEL, "report": REPORT}
        return "\n".join(lines_beside(__file__, "outcome.txt", board=self, again=again, **names))

    def save(self, path: Path) -> None:
        names = list(dict.fromkeys(name for entry in self.entries for name in entry.values))
        metrics = [name for name in _SHOWN_METRICS if name != self.objective.name]
        columns = ["rank", "trial", "state", self.objective.name, *names, *metrics, "against_best", "p_value", "epochs"]
        rows = (
            {
                "rank": rank if entry.state == FINISHED else "",
                "trial": entry.number,
                "state": entry.state,
                self.objective.name: "" if entry.value is None else entry.value,
                **entry.values,
                **{name: entry.metrics.get(name, "") for name in metrics},
                "against_best": self.against_best(entry),
                "p_value": self._p_value(entry),
                "epochs": entry.epochs,
                "seconds": entry.seconds,
                "message": entry.message,
            }
            for rank, entry in enumerate(self.entries, start=1)
        )
        write_csv(path, [*columns, "seconds", "message"], rows)

    def _p_value(self, entry: Entry) -> str:
        pair = self.pairs.get(entry.number)
        return "" if pair is None or entry is self.best else f"{pair.p_value:.4g}"


def save_best(path: Path, best: Entry, objective: Objective, overrides: Sequence[str]) -> None:
    """Writes best.yaml, from which `best_of` runs the best values again."""
    content: dict[str, Any] = {
        "format": _FORMAT,
        "objective": objective.name,
        "value": best.value,
        "trial": best.number,
        "values": dict(best.values),
        "overrides": list(overrides),
    }
    write_yaml(path, content, f"# {command('train')} {override('best_of', path)}\n")


def best_overrides(place: Path) -> list[str]:
    """Returns the overrides of best.yaml: of the file, of its multirun directory, or of the name of a tuning job.

    Raises:
        ConfigError: There is no such file, or it is not the best.yaml of a search.
    """
    path = place / BEST if place.is_dir() else place
    if not path.exists():
        path = _of_tuning_job(str(place))
    if not path.is_file():
        said = f"best_of={place}: there is no {BEST}. Name the directory of a search, its {BEST},"
        raise ConfigError(f"{said} or a tuning job that was followed to its end on this machine.")
    content = read_yaml(path)
    known = content.get("format") == _FORMAT and isinstance(content.get("overrides"), list)
    overrides: list[str] = content["overrides"] if known else []
    # A file from elsewhere may choose settings, but not what Hydra runs.
    if not known or any(not isinstance(one, str) or name_of(one).startswith(("-", "hydra")) for one in overrides):
        raise ConfigError(f"best_of={place}: {path} is not the {BEST} of a search, or not of this version.")
    # The search may have been moved.
    copies = {f"data.{name}": path.parent / copy for name, copy in KEPT.items() if (path.parent / copy).is_file()}
    here = {name: f"{name}={hydra_value(str(copy))}" for name, copy in copies.items()}
    return [here.get(name_of(one), one) for one in overrides]


def remember(tuning_job: str, best: Path) -> None:
    """Keeps a copy of best.yaml under the name of its tuning job, for `best_of=<tuning job>`."""
    path = _of_tuning_job(tuning_job)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, best.read_text(encoding="utf-8"))


def _of_tuning_job(name: str) -> Path:
    return Path(platformdirs.user_data_dir("dogbreeds")) / "tuning_jobs" / f"{name}.yaml"
