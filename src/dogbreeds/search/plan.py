"""What a search will run: its space, its settings, and the config of any trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dogbreeds.config import SEARCH_CONFIG, check_photos, trial
from dogbreeds.errors import ConfigError
from dogbreeds.schema import SearchConfig, TrainConfig
from dogbreeds.search.settings import GROUPS, check_search, searchable
from dogbreeds.search.space import Choice, Dimension, Interval, Values, parse, value_of

#: Composes a config from overrides without sweeps.
Compose = Callable[[Sequence[str]], DictConfig]
# What only says where a search is written.
_PLACES = ("resume=",)


class Plan:
    """A search before its first trial, checked as far as that can be done without photos or weights.

    Attributes:
        arguments: The command line it was made of.
        space: What is varied.
        settings: How, how often and for what.
        corners: Configs that together hold every choice and every end of an interval; the first one stands for all.
    """

    def __init__(self, arguments: Sequence[str], compose: Compose, loader: ConfigLoader | None) -> None:
        """Reads a command line.

        Args:
            arguments: Overrides, sweeps or not.
            compose: Makes a config of overrides.
            loader: Hydra's, for globs over a config group.

        Raises:
            ConfigError: It cannot be searched; the message has all that is wrong.
            DataError: There are no photos.
        """
        self.arguments = [argument for argument in arguments if not argument.startswith(_PLACES)]
        self._compose = compose
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        typed = parse({}, self.arguments, searchable(), loader)
        self._base = compose(typed.fixed)
        settings = OmegaConf.to_object(self._base.hpo)
        assert isinstance(settings, SearchConfig)
        self.settings = settings
        self.space = parse(settings.space, self.arguments, searchable(), loader)
        if self.space.fixed != typed.fixed:
            self._base = compose(self.space.fixed)
        self.corners = self._corners()
        check_search(self.settings, self.space, self.corners[0])
        for config in {config.data.dir: config for config in self.corners}.values():
            check_photos(config)

    @property
    def seed(self) -> int:
        """Decides which points are tried."""
        return int(self._base.seed)

    @property
    def epochs(self) -> int:
        """The most that a trial trains for."""
        return max(config.epochs for config in self.corners)

    def first(self, directory: Path) -> TrainConfig:
        """Returns the first corner as if it were written to a directory: what all trials share lies there."""
        return self.config({name: _ends(one)[0] for name, one in self.space.dimensions.items()}, directory)

    def defaults(self) -> Values:
        """The values of the config, as far as they lie in the space."""
        choices = self._base.hydra.runtime.choices
        values: dict[str, Any] = {}
        for name in self.space.dimensions:
            value = choices.get(name) if name in GROUPS else OmegaConf.select(self._base, name)
            values[name] = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        return self.space.within(values)

    def config(self, values: Values, directory: Path) -> TrainConfig:
        """Returns the config of a trial.

        Args:
            values: One for each dimension of the space.
            directory: Where it is written.

        Raises:
            ConfigError: The values are impossible together.
        """
        texts = dict(override.split("=", 1) for override in self.space.overrides(values))
        groups = tuple(f"{name}={text}" for name, text in texts.items() if name in GROUPS)
        if groups not in self._composed:
            composed = self._compose([*self.space.fixed, *groups])
            # A copy of all that Hydra knows of itself would cost more than a trial's own settings.
            self._composed[groups] = OmegaConf.masked_copy(
                composed, [str(name) for name in composed if name != "hydra"]
            )
        config = self._composed[groups].copy()
        for name, text in texts.items():
            if name not in GROUPS:
                _set(config, name, text)
        return trial(config, directory)

    def overrides(self, values: Values) -> list[str]:
        """Returns the command line of a trial as a single run."""
        own = [override for override in self.space.fixed if not override.startswith(("hpo.", "best_of="))]
        return [*own, *self.space.overrides(values)]

    def save(self, directory: Path) -> None:
        """Writes search.yaml, from which `resumed` makes the plan again."""
        directory.mkdir(parents=True, exist_ok=True)
        temporary = directory / f"{SEARCH_CONFIG}.partial"
        OmegaConf.save(OmegaConf.create(self._record()), temporary)
        temporary.replace(directory / SEARCH_CONFIG)

    def _record(self) -> dict[str, Any]:
        first = OmegaConf.to_container(OmegaConf.structured(self.corners[0]))
        assert isinstance(first, dict)
        del first["run_dir"]
        return {
            "overrides": self.arguments,
            "first_corner": first,
            "space": {name: _described(dimension) for name, dimension in self.space.dimensions.items()},
            "strategy": self.settings.strategy,
            "objective": self.settings.objective,
            "min_epochs": self.settings.min_epochs,
        }

    @classmethod
    def resumed(
        cls, directory: Path, arguments: Sequence[str], compose: Compose, loader: ConfigLoader | None
    ) -> Plan:
        """Makes the plan of a search again; `hpo.trials` may have changed, so that it becomes a longer one.

        Raises:
            ConfigError: The directory holds no search, or conf/ has changed so that it would be another one.
        """
        path = directory / SEARCH_CONFIG
        if not path.is_file():
            raise ConfigError(f"resume={directory}: there is no {SEARCH_CONFIG} in it, so it is no search.")
        others = [one for one in arguments if not one.startswith((*_PLACES, "hpo.trials="))]
        if others:
            raise ConfigError(
                f"resume={directory} continues that search as it was, so {' '.join(others)} cannot apply. "
                "Leave it out, or start a new search with it; only hpo.trials can be raised."
            )
        saved: Any = OmegaConf.to_container(OmegaConf.load(path))
        longer = [argument for argument in arguments if argument.startswith("hpo.trials=")]
        plan = cls([*saved["overrides"], *longer], compose, loader)
        now = plan._record()
        changed = sorted(name for name in now if name != "overrides" and now[name] != saved[name])
        if changed:
            raise ConfigError(
                f"resume={directory}: conf/ now says something else than when that search was begun "
                f"({', '.join(_differences(saved, now, changed))}). Undo that, or start a new search."
            )
        return plan

    def _corners(self) -> list[TrainConfig]:
        for name, dimension in self.space.dimensions.items():
            of_whole_numbers = isinstance(OmegaConf.select(self._base, name), int)
            if of_whole_numbers and isinstance(dimension, Interval) and not dimension.integer:
                low, high = math.ceil(dimension.low), math.floor(dimension.high)
                raise ConfigError(f"{name} takes whole numbers: write {name}=int(interval({low}, {high})).")
        options = {name: _ends(dimension) for name, dimension in self.space.dimensions.items()}
        first = {name: found[0] for name, found in options.items()}
        points = [first, *({**first, name: option} for name, found in options.items() for option in found[1:])]
        return [self.config(point, Path()) for point in points]


def check_unused(directory: Path) -> None:
    """Refuses to begin a search where there is one.

    Raises:
        ConfigError: The message says how to continue it.
    """
    if (directory / SEARCH_CONFIG).is_file():
        raise ConfigError(
            f"{directory} holds a search already. Continue it with python train.py -m resume={directory}, or choose "
            "another hydra.sweep.dir."
        )


def _ends(dimension: Dimension) -> list[float | str]:
    return list(dimension.values) if isinstance(dimension, Choice) else [dimension.low, dimension.high]


def _described(dimension: Dimension) -> Any:
    return list(dimension.values) if isinstance(dimension, Choice) else vars(dimension)


def _differences(saved: dict[str, Any], now: dict[str, Any], names: Sequence[str]) -> list[str]:
    return [name for name in names if name != "first_corner"] + [
        key
        for key in now["first_corner"]
        if "first_corner" in names and now["first_corner"][key] != saved["first_corner"].get(key)
    ]


def _set(config: DictConfig, name: str, text: str) -> None:
    try:
        OmegaConf.update(config, name, value_of(text))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{name}={text}: {str(error).splitlines()[0]}") from error
