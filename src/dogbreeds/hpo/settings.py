"""What a search is asked for: how it chooses, how often, for which number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dogbreeds import constraints
from dogbreeds.errors import ConfigError, did_you_mean
from dogbreeds.hpo.space import OF_ALL_TRIALS, Interval, Space
from dogbreeds.schema import SearchConfig, TrainConfig, key_names

#: Config groups that can be searched.
GROUPS = ("data", "model", "experiment")
_MEASURED = {
    "accuracy": True,
    "top5_accuracy": True,
    "macro_f1": True,
    "loss": False,
    "calibration_error": False,
}
#: What can be searched for, by its name in metrics.json, and whether more of it is better.
OBJECTIVES = {f"{split}/{name}": more for split in ("val", "test") for name, more in _MEASURED.items()}
#: Those that are known after each epoch.
EPOCH_OBJECTIVES = ("val/loss", "val/accuracy", "val/top5_accuracy", "val/macro_f1")
# A grid of more would not end while anybody waits, and a slip of the pen is likelier.
_LARGEST_GRID = 10_000


@dataclass(frozen=True)
class Objective:
    """The number that a search is for.

    Attributes:
        name: Its name in metrics.json.
    """

    name: str

    @property
    def maximize(self) -> bool:
        """Whether more of it is better."""
        return OBJECTIVES[self.name]

    def rank(self, value: float) -> float:
        """Returns what is least for the best value."""
        return -value if self.maximize else value


def searchable() -> list[str]:
    """All settings and config groups that a search can vary."""
    return [*GROUPS, *(name for name in key_names(TrainConfig) if not name.startswith(OF_ALL_TRIALS))]


def check_search(settings: SearchConfig, space: Space, configs: Sequence[TrainConfig]) -> None:
    """Refuses a search that cannot work, listing everything that is wrong at once.

    Args:
        settings: The section `hpo`.
        space: What it varies.
        configs: Some of its trials, which together hold all that is varied.

    Raises:
        ConfigError: One line per problem.
    """
    problems = [*_problems(settings, space), *_trainer_problems(configs[0])]
    if settings.strategy == "hyperband":
        problems += _hyperband_problems(settings, configs)
    if problems:
        raise ConfigError("\n".join(problems))


def _problems(settings: SearchConfig, space: Space) -> list[str]:
    problems = constraints.problems(settings, "hpo.")
    if settings.objective not in OBJECTIVES:
        hint = did_you_mean(settings.objective, OBJECTIVES, most=1)
        problems.append(f"hpo.objective={settings.objective}: {hint}It must be one of {', '.join(OBJECTIVES)}.")
    if not space.dimensions:
        problems.append(
            "There is nothing to search: add hpo=bayes, or name the values to try, such as lr=0.01,0.001."
        )
    if settings.strategy == "grid":
        problems += _grid_problems(settings, space)
    elif settings.trials is None:
        problems.append(f"hpo.strategy={settings.strategy} needs to be told how often: hpo.trials=16.")
    return problems


def _grid_problems(settings: SearchConfig, space: Space) -> list[str]:
    problems = [
        f"{name}: a grid has no end of points between {dimension.low:g} and {dimension.high:g}. Name some, such as "
        f"{name}={dimension.low:g},{dimension.high:g}, or search with hpo=bayes or hpo=random."
        for name, dimension in space.dimensions.items()
        if isinstance(dimension, Interval) and not dimension.integer
    ]
    if not problems and space.size > _LARGEST_GRID:
        problems.append(f"A grid of {space.size:,.0f} combinations: name fewer values, or take hpo=random.")
    if settings.trials is not None:
        problems.append(
            f"hpo.trials={settings.trials}: a grid runs all its combinations. Leave it out, or take hpo=random."
        )
    return problems


def _trainer_problems(config: TrainConfig) -> list[str]:
    trainer = config.trainer
    if trainer.strategy in ("auto", "single_device") and trainer.devices == "1":
        return []
    return [
        f"trainer.strategy={trainer.strategy} trainer.devices={trainer.devices}: a search runs its trials in one "
        "process on one device. Use trainer=auto."
    ]


def _hyperband_problems(settings: SearchConfig, configs: Sequence[TrainConfig]) -> list[str]:
    problems = []
    epochs = max(config.epochs for config in configs)
    if settings.min_epochs is None or not 1 <= settings.min_epochs < epochs:
        problems.append(
            f"hpo.min_epochs={settings.min_epochs} epochs={epochs}: hpo=hyperband stops trials between the "
            "two, so it needs at least 1 and more epochs than that."
        )
    if settings.objective in OBJECTIVES and settings.objective not in EPOCH_OBJECTIVES:
        problems.append(
            f"hpo.objective={settings.objective} is not known after each epoch, as hpo=hyperband needs: "
            f"take one of {', '.join(EPOCH_OBJECTIVES)}."
        )
    if any(config.optimizer == "exact" for config in configs):
        problems.append("optimizer=exact has no epochs that hpo=hyperband could cut short: take hpo=exact.")
    return problems
