"""The Python API: `from dogbreeds import train, search, load`.

A call leaves the process as it was: working directory, `sys.argv`, environment, logging and Hydra's own state.
"""

from __future__ import annotations

import io
import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose

from dogbreeds import config as configs
from dogbreeds.arguments import arranged
from dogbreeds.composing import initialized
from dogbreeds.data.archives import unpack
from dogbreeds.errors import ConfigError, DataError
from dogbreeds.overrides import hydra_value, literal, value_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from dogbreeds.hpo.leaderboard import Entry, Leaderboard
    from dogbreeds.package.messages import Answer
    from dogbreeds.package.predictor import Predictor
    from dogbreeds.training.run import RunResult

# Hydra, the environment and the generators of random numbers are there once for all threads.
_TURN = threading.RLock()


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        directory: The multirun directory; `load` of it gives the best model.
        leaderboard: All trials, best first.
    """

    directory: Path
    leaderboard: Leaderboard

    @property
    def best(self) -> Entry | None:
        best = self.leaderboard.best
        if best is None:
            return None
        # Choices are kept as they were typed.
        values = {name: value_of(one) if isinstance(one, str) else one for name, one in best.values.items()}
        return replace(best, values=values)


class Classifier:
    """A loaded model package."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    @property
    def classes(self) -> tuple[str, ...]:
        """The class folders, in the order of the training set."""
        return tuple(self._predictor.description.classes)

    def predict(self, photos: Sequence[str | Path | bytes | Image]) -> list[Answer]:
        """Returns the breeds of some photos.

        Args:
            photos: Paths, the bytes of image files, or PIL images of any mode.
        """
        from dogbreeds.data.images import UnreadableImageError

        if isinstance(photos, str | bytes) or not isinstance(photos, Iterable):
            raise DataError("predict takes several photos: predict([photo]).")
        try:
            return self._predictor.predict([_content(photo) for photo in photos])
        except (OSError, UnreadableImageError) as error:
            raise DataError(f"A photo cannot be read: {error}") from error


def train(*overrides: str, **settings: object) -> RunResult:
    """Trains, evaluates and packages one classifier, as `python train.py` does.

    Args:
        *overrides: As on the command line: `train("data.dir=photos", "model=resnet50")`.
        **settings: The same by keyword: `train(lr=0.01, **{"data.dir": "photos"})`.

    Returns:
        The run directory, its metrics, and what the rules found.

    Raises:
        UserError: A setting, the photos or the weights cannot be used; the message says why.
    """
    arguments = _arguments(overrides, settings)
    with _TURN, _unchanged_process(), initialized("train", arguments):
        composed = compose("train", arguments, return_hydra_config=True)
        if not any(argument.startswith("run_dir=") for argument in arguments):
            composed.run_dir = literal(str(Path(composed.hydra.run.dir).absolute()))
        config = configs.load(composed, [one for one in arguments if not one.startswith("hydra.")])

        from dogbreeds.training import run

        return run.train(config)


def search(*overrides: str, **settings: object) -> SearchResult:
    """Searches for the best values on this machine, as `python train.py -m` does.

    Args:
        *overrides: As on the command line: `search("hpo=bayes", "data.dir=photos")` or `search("lr=0.1,0.01")`.
        **settings: Fixed values by keyword, as for `train`.

    Returns:
        The best trial, the leaderboard, and the multirun directory.

    Raises:
        UserError: The search cannot work, or no trial finished; the message says why.
    """
    arguments = _arguments(overrides, settings, several=True)
    of_hydra = [argument for argument in arguments if argument.startswith("hydra.")]
    own = [argument for argument in arguments if argument not in of_hydra]
    with _TURN, _unchanged_process(), initialized("train", arguments) as loader:
        resume = [argument for argument in own if argument.startswith("resume=")]
        master = compose("train", [*of_hydra, *resume], return_hydra_config=True)

        from dogbreeds.hpo import local
        from dogbreeds.hpo.resuming import planned

        plan, directory = planned(own, master, loader)
        return SearchResult(directory.absolute(), local.search(plan, directory))


def load(place: str | Path) -> Classifier:
    """Loads a model.

    Args:
        place: A run directory, a multirun directory (its best trial), a model package or its model.tar.gz.

    Raises:
        UserError: There is no model package, or it is damaged.
    """
    from dogbreeds.package.finding import find_package
    from dogbreeds.package.predictor import Predictor

    path = Path(place).expanduser()
    if not path.is_file():
        return Classifier(Predictor.load(find_package(str(path)), one_by_one=False))
    with tempfile.TemporaryDirectory(prefix="dogbreeds-") as directory:
        unpack(path, Path(directory))
        return Classifier(Predictor.load(Path(directory), one_by_one=False))


def _arguments(overrides: Sequence[str], settings: Mapping[str, object], *, several: bool = False) -> list[str]:
    """Returns a command line, with what `best_of` stands for."""
    typed = list(overrides)
    for name, value in settings.items():
        try:
            typed.append(f"{name}={hydra_value(str(value) if isinstance(value, Path) else value)}")
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{name}={value!r}: {error}.") from error
    if options := [str(argument) for argument in typed if not isinstance(argument, str) or argument.startswith("-")]:
        raise ConfigError(f"{' '.join(options)}: type 'lr=0.01' or lr=0.01; search() does what -m does.")
    return arranged(typed, several=several)


@contextmanager
def _unchanged_process() -> Iterator[None]:
    """Puts back what Lightning, torch and a run's own quietness change for the whole process."""
    environment = dict(os.environ)
    loggers = [logging.getLogger(name) for name in (None, "pytorch_lightning", "lightning")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _content(photo: str | Path | bytes | Image) -> bytes:
    from PIL import Image

    from dogbreeds.data.images import UnreadableImageError, upright

    if isinstance(photo, bytes):
        return photo
    if isinstance(photo, str | Path):
        return Path(photo).expanduser().read_bytes()
    if not isinstance(photo, Image.Image):
        raise DataError(f"A photo must be a path, bytes or a PIL image: one is of the type {type(photo).__name__}.")
    file = io.BytesIO()
    # Without loss, so that it is answered as the file that it came from would be.
    try:
        upright(photo).save(file, "PNG")
    except ValueError as error:
        raise UnreadableImageError(f"a PIL image of {photo.width} x {photo.height}, {error}") from error
    return file.getvalue()
