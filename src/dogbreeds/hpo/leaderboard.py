"""What a search found: its trials, leaderboard.csv and best.yaml."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from omegaconf import OmegaConf

from dogbreeds.config import read_yaml
from dogbreeds.errors import ConfigError
from dogbreeds.files import replacing, write_text
from dogbreeds.hpo.settings import Objective
from dogbreeds.hpo.space import Values
from dogbreeds.installation import command
from dogbreeds.overrides import override
from dogbreeds.run_directory import BEST, LEADERBOARD, REPORT

FINISHED, PRUNED, FAILED, NAN, INTERRUPTED = "finished", "pruned", "failed", "nan", "interrupted"
_SHOWN_METRICS = ("val/loss", "val/accuracy")


@dataclass(frozen=True)
class Entry:
    """One trial of a search.

    Attributes:
        number: Of the trial, and of its directory.
        state: `finished`; `pruned`, stopped because others were better; `nan`, its loss was never a number; `failed`
            with an error; `interrupted` by the end of the process.
        values: What was tried.
        value: What came of it in terms of the objective; of a pruned trial what it had reached.
        metrics: The numbers of its metrics.json.
        epochs: That it trained for.
        seconds: That it took.
        message: Why it failed.
    """

    number: int
    state: str
    values: Values
    value: float | None = None
    metrics: Mapping[str, float] | None = None
    epochs: int = 0
    seconds: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class Leaderboard:
    """The trials of a search, best first.

    Attributes:
        objective: What they are compared by.
        entries: Finished trials from the best to the worst, then the others by number.
    """

    objective: Objective
    entries: Sequence[Entry]

    @classmethod
    def of(cls, objective: Objective, entries: Sequence[Entry]) -> Leaderboard:
        """Sorts entries; of equals the earlier is better."""
        return cls(objective, sorted(entries, key=lambda entry: _place(objective, entry)))

    @property
    def finished(self) -> list[Entry]:
        """The trials that can be compared, best first."""
        return [entry for entry in self.entries if entry.state == FINISHED]

    @property
    def best(self) -> Entry | None:
        """The best finished trial."""
        return next(iter(self.finished), None)

    def summary(self) -> str:
        """Returns how many trials ended how, such as `3 finished, 1 failed`."""
        states = [entry.state for entry in self.entries]
        return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))

    def headline(self) -> str:
        """Returns how the trials ended, and which is the best."""
        best = self.best
        assert best is not None
        values = " ".join(f"{name}={value}" for name, value in best.values.items())
        return f"{self.summary()}; best: trial {best.number} with {self.objective.name} {best.value:.4f}, {values}"

    def outcome(self, directory: Path) -> str:
        """Returns what the command prints at its end."""
        best = self.best
        assert best is not None
        return "\n".join(
            [
                "",
                self.headline(),
                f"trials {directory / LEADERBOARD}",
                f"charts {directory / 'search.html'}",
                f"again  {command('train')} {override('best_of', directory)}",
                f"model  {directory / str(best.number) / 'model'}",
                f"report {directory / str(best.number) / REPORT}",
            ]
        )

    def save(self, path: Path) -> None:
        """Writes leaderboard.csv, whole or not at all."""
        names = list(dict.fromkeys(name for entry in self.entries for name in entry.values))
        metrics = [name for name in _SHOWN_METRICS if name != self.objective.name]
        columns = ["rank", "trial", "state", self.objective.name, *names, *metrics, "epochs", "seconds", "message"]
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            for rank, entry in enumerate(self.entries, start=1):
                writer.writerow(
                    {
                        "rank": rank if entry.state == FINISHED else "",
                        "trial": entry.number,
                        "state": entry.state,
                        self.objective.name: "" if entry.value is None else entry.value,
                        **entry.values,
                        **{name: (entry.metrics or {}).get(name, "") for name in metrics},
                        "epochs": entry.epochs,
                        "seconds": entry.seconds,
                        "message": entry.message,
                    }
                )


def _place(objective: Objective, entry: Entry) -> tuple[int, float, int]:
    if entry.state != FINISHED or entry.value is None:
        return (1, 0.0, entry.number)
    return (0, objective.rank(entry.value), entry.number)


def save_best(path: Path, best: Entry, objective: Objective, overrides: Sequence[str]) -> None:
    """Writes best.yaml, from which `best_of` runs the best values once more.

    Args:
        path: Where to.
        best: The best trial.
        objective: What it is the best by.
        overrides: All that the trial's command line would have been.
    """
    content: dict[str, Any] = {
        "objective": objective.name,
        "value": best.value,
        "trial": best.number,
        "values": dict(best.values),
        "overrides": list(overrides),
    }
    text = OmegaConf.to_yaml(OmegaConf.create(content))
    write_text(path, f"# {command('train')} {override('best_of', path)}\n{text}")


def best_overrides(place: Path) -> list[str]:
    """Returns the overrides of best.yaml.

    Args:
        place: The file, the multirun directory that it lies in, or the name of a tuning job.

    Raises:
        ConfigError: There is no such file, or something else is in it.
    """
    path = place / BEST if place.is_dir() else place
    if not path.exists():
        path = _of_tuning_job(str(place))
    if not path.is_file():
        raise ConfigError(
            f"best_of={place}: there is no {BEST}. It may be the directory of a search, its {BEST}, or a tuning job "
            "that this machine has followed to its end."
        )
    content = read_yaml(path)
    overrides = content.get("overrides") if isinstance(content, dict) and "trial" in content else None
    if not isinstance(overrides, list) or not all(_harmless(one) for one in overrides):
        raise ConfigError(f"best_of={place}: {path} is not the {BEST} of a search.")
    return overrides


def remember(tuning_job: str, best: Path) -> None:
    """Keeps best.yaml under the name of the tuning job that it is of, for `best_of=<tuning job>`."""
    path = _of_tuning_job(tuning_job)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, best.read_text(encoding="utf-8"))


def _of_tuning_job(name: str) -> Path:
    return Path(platformdirs.user_data_dir("dogbreeds")) / "tuning_jobs" / f"{name}.yaml"


def _harmless(one: object) -> bool:
    """A file from elsewhere may choose settings, and not what Hydra runs."""
    return isinstance(one, str) and not one.lstrip("+~").startswith(("-", "hydra"))
