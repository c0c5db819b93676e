"""What a search is asked for: how it chooses points, how many, and by which number it compares them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from omegaconf import DictConfig

from dogbreeds import constraints
from dogbreeds.errors import ConfigError, did_you_mean
from dogbreeds.files import yaml_beside
from dogbreeds.hpo.space import NOT_SEARCHABLE, Interval, Space
from dogbreeds.overrides import sets
from dogbreeds.schema import SearchConfig, TrainConfig, key_types

#: Config groups that can be searched.
GROUPS = ("data", "model", "experiment")
#: The numbers of metrics.json that a search can be for, and whether more is better.
OBJECTIVES: dict[str, bool] = yaml_beside(__file__, "objectives.yaml")
#: Those that are known after each epoch.
EPOCH_OBJECTIVES = ("val/loss", "val/accuracy", "val/top5_accuracy", "val/macro_f1")
# Nobody waits for a larger one; it is more likely a typing mistake.
_MAX_GRID = 10_000


@dataclass(frozen=True)
class Objective:
    """The number that trials are compared by."""

    name: str

    @property
    def maximize(self) -> bool:
        return OBJECTIVES[self.name]

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        return "maximize" if self.maximize else "minimize"

    def rank(self, value: float) -> float:
        """Returns a sort key: the best value has the smallest."""
        return -value if self.maximize else value


def searchable() -> list[str]:
    return [*GROUPS, *(name for name in key_types(TrainConfig) if not name.startswith(NOT_SEARCHABLE))]


def check_hydra(hydra: DictConfig) -> None:
    """Refuses settings of Hydra's own multirun that a search would ignore."""
    launcher = hydra.runtime.choices["hydra/launcher"]
    ignored = [one for one in hydra.overrides.hydra if sets(one, "hydra.launcher", "hydra.sweep.subdir")]
    ignored += [f"hydra/launcher={launcher}"] if launcher != "basic" else []
    if ignored:
        said = "a search runs its trials in one process, in numbered directories. Leave it out."
        raise ConfigError(f"{' '.join(ignored)}: {said}")


def check_search(settings: SearchConfig, space: Space, configs: Sequence[TrainConfig]) -> None:
    """Refuses a search that cannot work, listing everything that is wrong at once."""
    problems = constraints.problems(settings, "hpo.")
    if settings.objective not in OBJECTIVES:
        hint = did_you_mean(settings.objective, OBJECTIVES, most=1)
        problems.append(f"hpo.objective={settings.objective}: {hint}It must be one of {', '.join(OBJECTIVES)}.")
    if not space.dimensions:
        problems.append("There is nothing to search: add hpo=bayes, or list values to try, such as lr=0.01,0.001.")
    if settings.strategy == "grid":
        problems += _grid_problems(settings, space)
    elif settings.trials is None:
        problems.append(f"hpo.strategy={settings.strategy} needs a budget: hpo.trials=16.")
    trainer = configs[0].trainer
    if trainer.strategy not in ("auto", "single_device") or trainer.devices != "1":
        said = f"trainer.strategy={trainer.strategy} trainer.devices={trainer.devices}:"
        problems.append(f"{said} a search runs its trials in one process on one device. Use trainer=auto.")
    if settings.strategy == "hyperband":
        problems += _hyperband_problems(settings, configs)
    if problems:
        raise ConfigError("\n".join(problems))


def _grid_problems(settings: SearchConfig, space: Space) -> list[str]:
    problems = [
        f"{name}: a grid cannot enumerate an interval. List values, such as {name}={dimension.low:g},"
        f"{dimension.high:g}, or use hpo=bayes or hpo=random."
        for name, dimension in space.dimensions.items()
        if isinstance(dimension, Interval) and not dimension.integer
    ]
    if not problems and space.size > _MAX_GRID:
        problems.append(f"A grid of {space.size:,.0f} combinations is too large: list fewer values, or use hpo=random.")
    if settings.trials is not None:
        said = "a grid runs all its combinations. Leave it out, or use hpo=random."
        problems.append(f"hpo.trials={settings.trials}: {said}")
    return problems


def _hyperband_problems(settings: SearchConfig, configs: Sequence[TrainConfig]) -> list[str]:
    problems = []
    epochs = max(config.epochs for config in configs)
    if settings.min_epochs is None or not 1 <= settings.min_epochs < epochs:
        said = f"hpo.min_epochs={settings.min_epochs} epochs={epochs}: hpo=hyperband stops trials in between,"
        problems.append(f"{said} so hpo.min_epochs must be at least 1 and less than epochs.")
    if settings.objective in OBJECTIVES and settings.objective not in EPOCH_OBJECTIVES:
        said = f"hpo.objective={settings.objective} is not measured after each epoch, which hpo=hyperband needs:"
        problems.append(f"{said} use one of {', '.join(EPOCH_OBJECTIVES)}.")
    if any(config.optimizer == "exact" for config in configs):
        problems.append("optimizer=exact has no epochs that hpo=hyperband could cut short: use hpo=exact.")
    return problems
