"""What a search will run: its space, its settings, and the config of any trial."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dogbreeds.config import trial
from dogbreeds.data.kept import Named, keep, named_files
from dogbreeds.data.labels import find
from dogbreeds.errors import ConfigError
from dogbreeds.hpo.settings import GROUPS, check_hydra, check_search, searchable
from dogbreeds.hpo.space import Interval, Space, Values, parse
from dogbreeds.overrides import hydra_value, literal, name_of, sets, value_of
from dogbreeds.run_directory import KEPT
from dogbreeds.schema import SearchConfig, TrainConfig, key_types
from dogbreeds.training.preparation import preparation_key

#: Composes a config from overrides without sweeps.
Compose = Callable[[Sequence[str]], DictConfig]
# How many combinations with an option are tried before it counts as impossible.
_MAX_ATTEMPTS = 100


class Plan:
    """A search before its first trial, checked as far as possible without reading photos or weights.

    Attributes:
        space: What is varied. What decides photos, backbone and features comes first, so that a grid changes it least
            often.
        named: The files that settings of `data` name; trials read the copies of them in the search.
        corners: Possible configs that together hold every choice and both ends of every interval.
    """

    def __init__(
        self, arguments: Sequence[str], compose: Compose, loader: ConfigLoader | None, copies: Named | None = None
    ) -> None:
        """Reads a command line; `copies` are those that `keep_files` made when the search was started."""
        self.arguments = [argument for argument in arguments if name_of(argument) != "resume"]
        self._compose, self._copies = compose, copies or {}
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        typed = parse({}, self.arguments, searchable(), loader)
        for one in typed.fixed:
            if name_of(one) == "run_dir":
                raise ConfigError(f"{one}: a search writes its trials below hydra.sweep.dir; set that instead.")
        self._base = compose(typed.fixed)
        self.settings = cast(SearchConfig, OmegaConf.to_object(self._base.hpo))
        self.space = parse(self.settings.space, self.arguments, searchable(), loader)
        if self.space.fixed != typed.fixed:
            self._base = compose(self.space.fixed)
        check_hydra(self._base.hydra)
        _check_whole_numbers(self.space)
        corners = self._corners()
        self._points, self.corners = [point for point, _ in corners], [config for _, config in corners]
        named = [named_files(self._varied(point).data) for point in self._points]
        for name in KEPT:
            if len(given := list(dict.fromkeys(one.get(name) for one in named))) > 1:
                raise ConfigError(f"data.{name} is {given[0]} and {given[1]}: all trials have the same photos.")
        self.named = named[0]
        check_search(self.settings, self.space, self.corners)
        for directory in {config.data.dir for config in self.corners}:
            find(directory, self.corners[0].data.labels)
        self.space = self._least_often_first()

    @property
    def seed(self) -> int:
        """Decides which points are tried."""
        return int(self._base.seed)

    @property
    def epochs(self) -> int:
        """The most epochs that a trial trains for."""
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
        """Returns the first corner with `directory` as its run directory: where what all trials share is written."""
        return self.config(self._points[0], directory)

    def keep_files(self, directory: Path) -> None:
        """Copies what settings of `data` name into the search, once; all trials read the copies."""
        if not self._copies:
            self._copies = keep(self.named, directory)
            self.corners = [replace(one, data=replace(one.data, **self._copies)) for one in self.corners]

    def defaults(self) -> Values:
        """The values that a single run would have, where they lie in the space."""
        choices = self._base.hydra.runtime.choices
        values: dict[str, Any] = {}
        for name in self.space.dimensions:
            value = choices.get(name) if name in GROUPS else OmegaConf.select(self._base, name)
            values[name] = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        return self.space.within(values)

    def config(self, values: Values, directory: Path) -> TrainConfig:
        config = self._varied(values)
        config.data.update(literal(self._copies))
        return trial(config, directory)

    def _varied(self, values: Values) -> DictConfig:
        """Returns what Hydra composes for a trial."""
        texts = {name_of(one): one.partition("=")[2] for one in self.space.overrides(values)}
        groups = tuple(f"{name}={text}" for name, text in texts.items() if name in GROUPS)
        if groups not in self._composed:
            composed = self._compose([*self.space.fixed, *groups])
            # Copying Hydra's own section would take longer than the rest of a trial's config.
            own = [str(name) for name in composed if name != "hydra"]
            self._composed[groups] = OmegaConf.masked_copy(composed, own)
        config = self._composed[groups].copy()
        for name, text in texts.items():
            if name not in GROUPS:
                try:
                    OmegaConf.update(config, name, value_of(text))
                except OmegaConfBaseException as error:
                    raise ConfigError(f"{name}={text}: {str(error).splitlines()[0]}") from error
        return config

    def overrides(self, values: Values) -> list[str]:
        own = [one for one in self.space.fixed if name_of(one) == "hpo" or not sets(one, "hpo", "best_of", "sagemaker")]
        copies = {f"data.{name}": copy for name, copy in self._copies.items()}
        own = [one for one in own if name_of(one) not in copies]
        own += [f"{name}={hydra_value(copy)}" for name, copy in copies.items()]
        return [*own, *self.space.overrides(values)]

    def _corners(self) -> list[tuple[Values, TrainConfig]]:
        """Returns a possible point, and for each other option a possible point that has it, with their configs."""
        options = {name: one.ends for name, one in self.space.dimensions.items()}
        first = self._possible(options)
        others = [(name, option) for name, found in options.items() for option in found if option != first[0][name]]
        return [first, *(self._possible({**options, name: [option]}) for name, option in others)]

    def _possible(self, options: dict[str, list[float | str]]) -> tuple[Values, TrainConfig]:
        refused: ConfigError | None = None
        for combination in itertools.islice(itertools.product(*options.values()), _MAX_ATTEMPTS):
            point = dict(zip(options, combination, strict=True))
            try:
                return point, self.config(point, Path())
            except ConfigError as error:
                refused = refused or error
        assert refused is not None
        raise refused

    def _least_often_first(self) -> Space:
        needs = [preparation_key(config) for config in self.corners]
        others = [point for point, need in zip(self._points, needs, strict=True) if need != needs[0]]
        changing = {name for point in others for name in point if point[name] != self._points[0][name]}
        dimensions = sorted(self.space.dimensions.items(), key=lambda dimension: dimension[0] not in changing)
        return Space(dict(dimensions), self.space.fixed)


def _check_whole_numbers(space: Space) -> None:
    types = key_types(TrainConfig)
    for name, dimension in space.dimensions.items():
        whole = types.get(name) in (int, int | None)
        if whole and isinstance(dimension, Interval) and not dimension.integer:
            raise ConfigError(f"{name} takes whole numbers: write {name}=int(interval(smallest, largest)).")
