"""What of a run crosses to a job: its settings, and the files of this machine that they name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from dogbreeds.debug.catalogue import RULES
from dogbreeds.errors import ConfigError
from dogbreeds.model.names import WEIGHTS
from dogbreeds.sagemaker.protocol.hyperparameters import crosses
from dogbreeds.schema import TrainConfig, key_names

#: The channel of the breed folders, and that of features which a job starts from.
PHOTOS, FEATURES = "photos", "features"
_DATA, _WEIGHTS, _RULES = "data.dir", "model.weights", "debugger.rules"
_GROUPS = ("logger", "callbacks")


@dataclass(frozen=True)
class Crossing:
    """What a job is told and given.

    Attributes:
        overrides: Settings by their dotted names, for `wire.encode`.
        files: For the settings that are files or directories of this machine, which; each becomes a channel.
    """

    overrides: dict[str, object]
    files: dict[str, Path]

    def channels(self) -> dict[str, Path]:
        """Returns the files by the names of their channels."""
        return {channel_of(name): path for name, path in self.files.items()}


def outgoing(config: TrainConfig, corners: Sequence[TrainConfig] = (), searched: Collection[str] = ()) -> Crossing:
    """Returns all that a job must know of a run: every setting, whatever the defaults are where it runs.

    Args:
        config: A checked config.
        corners: Of a tuning job, configs that together hold all that is varied (`Plan.corners`): what differs among
            them is brought by the values that the tuning job chooses, and stays out.
        searched: Of a tuning job, what it varies; stays out even where all corners agree.

    Raises:
        ConfigError: A tuning job would vary which files it is given.
    """
    # Config groups cross entry by entry; what a job has by default and the run has not is switched off.
    sent: dict[str, object] = {"logger.tensorboard": None}
    for group in _GROUPS:
        sent |= {f"{group}.{name}": node for name, node in getattr(config, group).items()}
    files: dict[str, Path] = {}
    for name in key_names(TrainConfig):
        value, others = setting(config, name), [setting(corner, name) for corner in corners]
        file = _file(name, value)
        if any(other != value for other in others) or name in searched:
            if file is not None or any(_file(name, other) is not None for other in others):
                raise ConfigError(f"{name}: a tuning job gives all its trials the same files. Vary something else.")
        elif file is not None:
            files[name] = file
        elif crosses(name) and name not in _GROUPS:
            sent[name] = value
    return Crossing(sent, files)


def setting(config: TrainConfig, name: str) -> object:
    """Returns the value of a setting by its dotted name."""
    value: object = attrgetter(name)(config)
    if name == _RULES and isinstance(value, Mapping):
        # Dictionaries of overrides are merged into the defaults: what is left out must be switched off.
        return {rule: value.get(rule) for rule in RULES}
    return value


def channel_of(name: str) -> str:
    """Returns the channel by which a job gets the file or directory of a setting."""
    return PHOTOS if name == _DATA else f"file-{name.replace('.', '-')}"


def _file(name: str, value: object) -> Path | None:
    named = name == _DATA or (name == _WEIGHTS and value not in WEIGHTS)
    return Path(str(value)) if named else None
