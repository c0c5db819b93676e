"""What a search is asked for: how it chooses, how often, for which number."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from dogbreeds.errors import ConfigError
from dogbreeds.schema import SearchConfig, TrainConfig, key_names
from dogbreeds.search.space import Interval, Space

#: How points are chosen.
STRATEGIES = ("grid", "random", "bayes", "hyperband")
#: Config groups that can be searched.
GROUPS = ("data", "model", "trainer", "experiment")
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
# Where a run is written and what it shares with others, which are no properties of a model.
_NOT_SEARCHED = ("resume", "run_dir", "cache.dir", "cache.max_gb")


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
    return [*GROUPS, *(name for name in key_names(TrainConfig) if name not in _NOT_SEARCHED)]


def check_search(settings: SearchConfig, space: Space, config: TrainConfig) -> None:
    """Refuses a search that cannot work, listing everything that is wrong at once.

    Args:
        settings: The section `hpo`.
        space: What it varies.
        config: The values that are not varied.

    Raises:
        ConfigError: One line per problem.
    """
    problems = _problems(settings, space, config)
    if problems:
        raise ConfigError("\n".join(problems))


def _problems(settings: SearchConfig, space: Space, config: TrainConfig) -> list[str]:
    problems = []
    if settings.strategy not in STRATEGIES:
        problems.append(f"hpo.strategy={settings.strategy}: must be one of {', '.join(STRATEGIES)}.")
    if settings.objective not in OBJECTIVES:
        near = get_close_matches(settings.objective, OBJECTIVES, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        problems.append(f"hpo.objective={settings.objective}: {hint}It must be one of {', '.join(OBJECTIVES)}.")
    if settings.trials is not None and settings.trials < 1:
        problems.append(f"hpo.trials={settings.trials}: must be at least 1.")
    if not space.dimensions:
        problems.append(
            "There is nothing to search: add hpo=bayes, or name the values to try, such as lr=0.01,0.001."
        )
    if settings.strategy == "grid":
        problems += _endless(space)
        if settings.trials is not None:
            problems.append(
                f"hpo.trials={settings.trials}: a grid runs all its combinations. Leave it out, or take hpo=random."
            )
    elif settings.trials is None:
        problems.append(f"hpo.strategy={settings.strategy} needs to be told how often: hpo.trials=16.")
    if settings.strategy == "hyperband":
        problems += _hyperband_problems(settings, config)
    if config.trainer.strategy not in ("auto", "single_device"):
        problems.append(
            f"trainer.strategy={config.trainer.strategy}: a search runs its trials in one process. Use trainer=auto."
        )
    return problems


def _endless(space: Space) -> list[str]:
    return [
        f"{name}: a grid has no end of points between {dimension.low:g} and {dimension.high:g}. Name some, such as "
        f"{name}={dimension.low:g},{dimension.high:g}, or search with hpo=bayes or hpo=random."
        for name, dimension in space.dimensions.items()
        if isinstance(dimension, Interval) and not dimension.integer
    ]


def _hyperband_problems(settings: SearchConfig, config: TrainConfig) -> list[str]:
    problems = []
    if settings.min_epochs is None or settings.min_epochs < 1:
        problems.append(f"hpo.min_epochs={settings.min_epochs}: hpo=hyperband needs at least 1.")
    if settings.objective in OBJECTIVES and settings.objective not in EPOCH_OBJECTIVES:
        problems.append(
            f"hpo.objective={settings.objective} is not known after each epoch, as hpo=hyperband needs: "
            f"take one of {', '.join(EPOCH_OBJECTIVES)}."
        )
    if config.optimizer == "exact":
        problems.append("optimizer=exact has no epochs that hpo=hyperband could cut short: take hpo=exact.")
    return problems
