"""The settings of a run that a job gets, and the files of this machine that they name."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path

from dogbreeds.debug.catalogue import RULES
from dogbreeds.errors import ConfigError
from dogbreeds.model.names import WEIGHTS
from dogbreeds.model.weight_files import weights_file
from dogbreeds.sagemaker.protocol.hyperparameters import is_sent
from dogbreeds.schema import TrainConfig, key_types

#: The channels of the breed folders and of ready features.
PHOTOS, FEATURES = "photos", "features"
#: What has the labels of the photos, where these lie in no class folders.
LABELS = "data.labels"
_DATA, _EXCLUDE, _WEIGHTS, _RULES = "data.dir", "data.exclude", "model.weights", "debugger.rules"
_GROUPS = ("logger", "callbacks")


@dataclass(frozen=True)
class JobInputs:
    """What a job gets: settings, files of this machine by the settings that name them, and extras that these need."""

    overrides: dict[str, object]
    files: dict[str, Path]
    extras: tuple[str, ...] = ()

    def channels(self) -> dict[str, Path]:
        return {channel_of(name): path for name, path in self.files.items()}


def job_inputs(config: TrainConfig, corners: Sequence[TrainConfig] = (), searched: Collection[str] = ()) -> JobInputs:
    """Returns every setting and file of a checked config, so that a job does not depend on defaults.

    `corners` of a tuning job together hold all variations (`Plan.corners`): settings that differ among them, and
    those that are `searched`, come with the values that the tuning job chooses, and are left out.
    """
    names = [name for name in key_types(TrainConfig) if name not in _GROUPS]
    values = {name: [setting(one, name) for one in (config, *corners)] for name in names}
    varied = {name for name in names if name in searched or any(one != values[name][0] for one in values[name])}
    for name in varied:
        if any(_file(name, value) is not None for value in values[name]):
            raise ConfigError(f"{name}: all trials of a tuning job get the same files. Vary something else.")
    fixed = {name: values[name][0] for name in names if name not in varied}
    files = {name: path for name, value in fixed.items() if (path := _file(name, value)) is not None}
    backbones = {one.model.backbone for one in (config, *corners)}
    if _WEIGHTS in files and len(backbones) == 1:
        # A folder may have the weights of many backbones.
        files[_WEIGHTS] = weights_file(files[_WEIGHTS], config.model.backbone)
    sent = {name: value for name, value in fixed.items() if name not in files and is_sent(name)}
    # Groups are sent entry by entry; what a job has by default and the run has not is switched off.
    sent["logger.tensorboard"] = None
    for group in _GROUPS:
        sent |= {f"{group}.{name}": node for name, node in getattr(config, group).items()}
    extras = ("timm",) if any(one.model.library == "timm" for one in (config, *corners)) else ()
    if any(one.features.precision == "int8" for one in (config, *corners)):
        extras = (*extras, "int8")
    if find_spec("pillow_heif") is not None:
        # Photos are left out where they cannot be read: a job reads what this machine does.
        extras = (*extras, "heic")
    return JobInputs(sent, files, extras)


def setting(config: TrainConfig, name: str) -> object:
    value: object = attrgetter(name)(config)
    if name == _RULES and isinstance(value, Mapping):
        # Overrides are merged into the defaults: a rule that is left out must be switched off.
        return {rule: value.get(rule) for rule in RULES}
    return value


def channel_of(name: str) -> str:
    """Returns the channel by which a job gets the file or directory of a setting."""
    return PHOTOS if name == _DATA else f"file-{name.replace('.', '-')}"


def _file(name: str, value: object) -> Path | None:
    path = Path(str(value))
    # Weights may have a name that the library knows.
    named = name in (_DATA, LABELS, _EXCLUDE) or (name == _WEIGHTS and value not in WEIGHTS and path.exists())
    return path if named and value is not None else None
