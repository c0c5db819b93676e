"""From a composed config to a checked one: types, allowed values, and what settings must be together."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dogbreeds.constraints import problems, settings
from dogbreeds.data.kept import kept, labelled, named_files
from dogbreeds.data.labels import find
from dogbreeds.directories import refuse_search, run_of
from dogbreeds.errors import ConfigError
from dogbreeds.explanations import explained
from dogbreeds.files import reading, write_text
from dogbreeds.installation import command
from dogbreeds.model_settings import model_problems
from dogbreeds.overrides import literal, name_of
from dogbreeds.run_directory import KEPT, RUN_CONFIG, SEARCH_CONFIG
from dogbreeds.schema import DataConfig, FeaturesConfig, SagemakerConfig, TrainConfig, TrainerConfig

Settings = TypeVar("Settings")
# What a command reads beside the settings of a run.
_COMMAND_KEYS = ("best_of", "hpo", "hydra", "attach", "stop", "sagemaker", "out", "cluster")
#: What may be named anew when a run goes on, and the settings that this is: where things are, and what computes.
MOVABLE = {
    name: (name,)
    for name in (
        *("data.dir", "data.workers", "model.weights", "cache.dir", "cache.max_gb"),
        *("features.engine", "features.batch_size", "trainer.accelerator", "trainer.devices", "trainer.strategy"),
    )
} | {"trainer": ("trainer.accelerator", "trainer.devices", "trainer.strategy")}


def load(composed: DictConfig, overrides: Sequence[str]) -> TrainConfig:
    """Turns a composed config into a checked `TrainConfig`.

    With `resume=<run directory>` the run continues with the config that it was started with, so that its result is
    the one of an uninterrupted run; with it, only `MOVABLE` can be changed.

    Args:
        composed: What Hydra composed from conf/ and the command line.
        overrides: The command line's own overrides, to tell a change from a default.

    Raises:
        ConfigError: A setting is impossible, or `resume` does not name a run directory.
        DataError: `data.dir` is missing, empty, or holds one class only, or `data.labels` does not fit it.
    """
    _refuse_search(composed, overrides)
    config = unchecked(composed) if composed.resume is None else _resumed(composed, overrides)
    check_settings(config)
    find(config.data.dir, config.data.labels)
    return config


def _refuse_search(composed: DictConfig, overrides: Sequence[str]) -> None:
    searched = [one for one in overrides if one.startswith("hpo")]
    # The values of `best_of` name the hpo that found them, which is no wish to search again.
    if own := [one for one in searched if composed.best_of is None or one.startswith("hpo.")]:
        again = shlex.join(own)
        raise ConfigError(f"{again} needs -m: {command('launch' if 'sagemaker' in composed else 'train')} -m {again}")


def _resumed(composed: DictConfig, overrides: Sequence[str]) -> TrainConfig:
    directory = run_of(composed.resume)
    if others := [other for other in overrides if name_of(other) not in ("resume", *MOVABLE)]:
        text = f"resume={directory} continues that run with its own config, so {' '.join(others)} cannot apply."
        raise ConfigError(f"{text} Leave it out, or start a new run with it; only {', '.join(MOVABLE)} can be changed.")
    if not (directory / RUN_CONFIG).is_file():
        refuse_search(directory)
        lacks = f"it has no {RUN_CONFIG}, so it is not a run directory" if directory.exists() else "no such directory"
        raise ConfigError(f"resume={directory}: {lacks}.")
    model = OmegaConf.select(OmegaConf.create(literal(read_yaml(directory / RUN_CONFIG))), "model")
    if OmegaConf.is_dict(model) and "library" not in model:
        said = "was begun by an older version of dogbreeds, with another recipe: start it anew."
        raise ConfigError(f"resume={directory} {said}")
    config = load_run(directory)
    config.resume = str(directory)
    for name in dict.fromkeys(key for other in overrides for key in MOVABLE.get(name_of(other), ())):
        section, _, key = name.rpartition(".")
        setattr(getattr(config, section), key, OmegaConf.select(composed, name))
    return config


def launch_settings(composed: DictConfig) -> SagemakerConfig:
    return check_launch(_object(composed.sagemaker, SagemakerConfig, "sagemaker."))


def check_launch(section: SagemakerConfig, *, serves: bool = False) -> SagemakerConfig:
    """Refuses settings of SageMaker that are impossible, or that need packages which are not installed.

    Where it `serves`, an endpoint is started or asked, whose container a rehearsal has to run.
    """
    needed = {"boto3": "sagemaker", "sagemaker": "sagemaker"}
    if section.rehearsal:
        needed |= {"moto": "rehearsal", "sagemaker_training": "rehearsal"} | ({"ray": "serve"} if serves else {})
    if missing := {extra for package, extra in needed.items() if find_spec(package) is None}:
        raise ConfigError(f"This needs more packages: pip install 'dogbreeds[{','.join(sorted(missing))}]'.")
    _raise(problems(section, "sagemaker."))
    return section


def command_settings(composed: DictConfig, schema: type[Settings]) -> Settings:
    """Returns all settings of a command, checked; for a section `sagemaker` see `check_launch` too."""
    config = _object(composed, schema)
    _raise(problems(config))
    return config


def read_yaml(path: Path) -> dict[str, Any]:
    """Returns the table in a file that the program wrote, in which all texts are literal."""
    with reading(path, ConfigError, yaml.YAMLError, OSError):
        return {**yaml.safe_load(path.read_text(encoding="utf-8"))}


def write_yaml(path: Path, content: dict[str, Any], head: str = "") -> None:
    """Writes what `read_yaml` reads back; `head` is a comment."""
    write_text(path, head + OmegaConf.to_yaml(OmegaConf.create(literal(content)), resolve=True))


def save(config: TrainConfig, path: Path) -> None:
    """Writes the config as YAML that `load` reads back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_yaml(path, asdict(config))


def load_saved(path: Path) -> TrainConfig:
    """Reads what `save` wrote, also before runs had all of the settings that there are now."""
    later = OmegaConf.load(Path(__file__).with_name("former_settings.yaml"))
    return unchecked(cast(DictConfig, OmegaConf.merge(later, literal(read_yaml(path)))))


def load_run(directory: Path) -> TrainConfig:
    """Reads the config of a run, or of a trial of a search, that may have been moved since.

    Raises:
        ConfigError: Files said which photos there are, and their copies are missing.
    """
    config = load_saved(directory / RUN_CONFIG)
    config.run_dir = str(directory)
    place, named = directory, named_files(config.data)
    own = any((directory / KEPT[name]).is_file() for name in named)
    if named and not own and (directory.parent / SEARCH_CONFIG).is_file():
        # Trials share the copies of their search.
        place, named = directory.parent, named | named_by(directory.parent)
    for name, copy in kept(named, place).items():
        setattr(config.data, name, copy)
    return config


def named_by(search: Path) -> dict[str, str]:
    """Returns the files that were typed as settings of `data` when a search was started."""
    content = OmegaConf.create(literal(read_yaml(search / SEARCH_CONFIG)))
    return named_files(OmegaConf.select(content, "first_corner.data"))


def trial(composed: DictConfig, directory: Path) -> TrainConfig:
    composed.resume, composed.run_dir = None, literal(str(directory))
    return check_settings(unchecked(composed))


def unchecked(composed: DictConfig) -> TrainConfig:
    """Returns a composed config whose types are right, and whose values and paths nobody has looked at."""
    own = [str(name) for name in composed if name not in _COMMAND_KEYS]
    return _object(OmegaConf.masked_copy(composed, own), TrainConfig)


def _object(composed: DictConfig, schema: type[Settings], prefix: str = "") -> Settings:
    try:
        # A plain copy, so that keys added with + are unknown keys too.
        plain: Any = OmegaConf.to_container(composed, resolve=True)
        trainer, known = plain.get("trainer", {}), {field.name for field in fields(TrainerConfig)}
        for name in [name for name in trainer if name not in known]:
            trainer.setdefault("arguments", {})[name] = trainer.pop(name)
        merged = OmegaConf.merge(OmegaConf.structured(schema), literal(plain))
        if missing := sorted(OmegaConf.missing_keys(merged)):
            added = ", ".join(f"{prefix}{name}=<value>" for name in missing)
            raise ConfigError(f"Add {added}: there is no default.")
        return cast(Settings, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        expected = {one.name: one.expected for one in settings(cast(type, schema))}
        raise ConfigError(prefix + explained(error, schema, expected, partial(OmegaConf.select, composed))) from error


def check_settings(config: TrainConfig) -> TrainConfig:
    """Refuses what cannot work, listing everything that is wrong at once; does not look at the photos."""
    # Needs numpy, which --help has no time for.
    from dogbreeds.debug.catalogue import rule_problems
    from dogbreeds.trainer_arguments import trainer_problems

    found = [*problems(config), *model_problems(config.model), *_data_problems(config.data)]
    found += [*rule_problems(config.debugger.rules), *trainer_problems(config), *_recipe_problems(config)]
    _raise([*found, *_precision_problems(config.features)])
    return config


def _raise(found: Sequence[str]) -> None:
    if found:
        raise ConfigError("\n".join(found))


def _data_problems(data: DataConfig) -> list[str]:
    found, place = [], data.dir
    if "://" in place or Path(place).is_file():
        how = f"aws s3 sync {shlex.quote(place)} photos" if place.startswith("s3:") else "get and unpack it to photos"
        found.append(f"data.dir={place}: must be a folder on this machine. First {how}, then type data.dir=photos.")
    if data.exclude is not None and not Path(data.exclude).is_file():
        said = "no such file. It may be an audit.csv, or have a path in each line."
        found.append(f"data.exclude={data.exclude}: {said}")
    if data.labels is not None and not (named := Path(data.labels)).is_file():
        photos = named if named.is_dir() and any(one.is_dir() for one in named.iterdir()) else Path(place)
        typed = labelled(photos, Path(place, named), named, Path(place)) or "data.dir=dogs data.labels=dogs/labels.csv"
        what = "that is a folder" if named.is_dir() else "no such file"
        found.append(f"data.labels={named}: {what}. Type the folder of the photos and a table: {typed}")
    return found


def _precision_problems(features: FeaturesConfig) -> list[str]:
    needs = {
        f"features.engine=auto, and it is {features.engine}": features.engine in ("auto", "openvino"),
        "nncf (pip install 'dogbreeds[int8]')": find_spec("nncf") is not None,
    }
    wrong = [what for what, fine in needs.items() if not fine] if features.precision == "int8" else []
    return [f"features.precision=int8: needs {what}. Or use features.precision=bf16." for what in wrong]


def _recipe_problems(config: TrainConfig) -> list[str]:
    if config.features.mirror and config.model.unfreeze is not None:
        return [f"features.mirror=true: needs model.unfreeze=null, and it is {config.model.unfreeze}."]
    if config.optimizer != "exact":
        return []
    needs = {
        f"weight_decay={config.weight_decay}": (config.weight_decay > 0, "above 0, such as weight_decay=0.03"),
        f"model.head={config.model.head}": (config.model.head == "linear", "model.head=linear"),
        f"model.unfreeze={config.model.unfreeze}": (config.model.unfreeze is None, "model.unfreeze=null"),
        f"data.views={config.data.views}": (config.data.views == 0, "data.views=0"),
    }
    return [f"{found}: optimizer=exact needs {what}." for found, (fine, what) in needs.items() if not fine]
