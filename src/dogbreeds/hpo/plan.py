"""What a search will run: its space, its settings, and the config of any trial."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dogbreeds.config import check_photos, trial
from dogbreeds.errors import ConfigError
from dogbreeds.hpo.settings import GROUPS, check_search, searchable
from dogbreeds.hpo.space import Choice, Dimension, Interval, Space, Values, parse
from dogbreeds.overrides import value_of
from dogbreeds.schema import SearchConfig, TrainConfig, key_types
from dogbreeds.training.preparation import preparation_key

#: Composes a config from overrides without sweeps.
Compose = Callable[[Sequence[str]], DictConfig]
# What only says where a search is written.
_PLACES = ("resume=",)


class Plan:
    """A search before its first trial, checked as far as that can be done without photos or weights.

    Attributes:
        arguments: The command line it was made of.
        space: What is varied; what photos, backbone and features depend on comes first, so that a grid changes it
            least often.
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
        _check_places(typed.fixed)
        self._base = compose(typed.fixed)
        settings = OmegaConf.to_object(self._base.hpo)
        assert isinstance(settings, SearchConfig)
        self.settings = settings
        self.space = parse(settings.space, self.arguments, searchable(), loader)
        if self.space.fixed != typed.fixed:
            self._base = compose(self.space.fixed)
        _check_whole_numbers(self.space)
        self._first, points = self._valid_points()
        self.corners = [self.config(point, Path()) for point in points]
        check_search(self.settings, self.space, self.corners)
        for config in {config.data.dir: config for config in self.corners}.values():
            check_photos(config)
        self.space = self._least_often_first(points)

    @property
    def seed(self) -> int:
        """Decides which points are tried."""
        return int(self._base.seed)

    @property
    def epochs(self) -> int:
        """The most that a trial trains for."""
        return max(config.epochs for config in self.corners)

    @property
    def prepares_once(self) -> bool:
        """Whether all trials need the same photos, backbone and features."""
        return len({preparation_key(config) for config in self.corners}) == 1

    @property
    def debug(self) -> bool:
        """Whether the trials see one batch of the photos."""
        return self.corners[0].trainer.one_batch

    def first(self, directory: Path) -> TrainConfig:
        """Returns the first corner as if it were written to a directory: what all trials share lies there."""
        return self.config(self._first, directory)

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
            own = [str(name) for name in composed if name != "hydra"]
            self._composed[groups] = OmegaConf.masked_copy(composed, own)
        config = self._composed[groups].copy()
        for name, text in texts.items():
            if name not in GROUPS:
                _set(config, name, text)
        return trial(config, directory)

    def overrides(self, values: Values) -> list[str]:
        """Returns the command line of a trial as a single run."""
        own = [
            override for override in self.space.fixed if not override.startswith(("hpo.", "best_of=", "sagemaker"))
        ]
        return [*own, *self.space.overrides(values)]

    def _valid_points(self) -> tuple[Values, list[Values]]:
        """Returns a point that can be tried, and for every other option a point that has it.

        Raises:
            ConfigError: An option can be tried with no other value of the rest; the message says why not.
        """
        options = {name: _ends(dimension) for name, dimension in self.space.dimensions.items()}
        first = self._repaired({name: found[0] for name, found in options.items()}, options, kept=None)
        others = [
            self._repaired({**first, name: option}, options, kept=name)
            for name, found in options.items()
            for option in found
            if option != first[name]
        ]
        return first, [first, *others]

    def _repaired(self, point: Values, options: Mapping[str, Sequence[float | str]], kept: str | None) -> Values:
        """Returns a point, or one that can be tried and differs in one value but not in the one that is `kept`."""
        try:
            self.config(point, Path())
        except ConfigError as error:
            for name, found in options.items():
                for option in found if name != kept else ():
                    with contextlib.suppress(ConfigError):
                        self.config({**point, name: option}, Path())
                        return {**point, name: option}
            raise error
        return point

    def _least_often_first(self, points: Sequence[Values]) -> Space:
        needs = [preparation_key(config) for config in self.corners]
        changing = {
            name
            for point, need in zip(points, needs, strict=True)
            if need != needs[0]
            for name in point
            if point[name] != self._first[name]
        }
        dimensions = sorted(self.space.dimensions.items(), key=lambda dimension: dimension[0] not in changing)
        return Space(dict(dimensions), self.space.fixed)


def _check_places(fixed: Sequence[str]) -> None:
    for override in fixed:
        if override.startswith("run_dir="):
            raise ConfigError(f"{override}: trials are written where hydra.sweep.dir says; set that instead.")


def _check_whole_numbers(space: Space) -> None:
    types = key_types(TrainConfig)
    for name, dimension in space.dimensions.items():
        whole = types.get(name) in (int, int | None)
        if whole and isinstance(dimension, Interval) and not dimension.integer:
            raise ConfigError(f"{name} takes whole numbers: write {name}=int(interval(smallest, largest)).")


def _ends(dimension: Dimension) -> list[float | str]:
    return list(dimension.values) if isinstance(dimension, Choice) else [dimension.low, dimension.high]


def _set(config: DictConfig, name: str, text: str) -> None:
    try:
        OmegaConf.update(config, name, value_of(text))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{name}={text}: {str(error).splitlines()[0]}") from error
