"""The one place where a config is checked: what types cannot say, before anything is loaded."""

from __future__ import annotations

from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from dogbreeds.data.layout import find_photos
from dogbreeds.errors import ConfigError
from dogbreeds.files import replacing
from dogbreeds.model.names import BACKBONES, WEIGHTS
from dogbreeds.overrides import override
from dogbreeds.run_directory import RUN_CONFIG, SEARCH_CONFIG
from dogbreeds.schema import ModelConfig, SagemakerConfig, TrainConfig, TrainerConfig

Settings = TypeVar("Settings")
OPTIMIZERS = ("adam", "adamw", "sgd", "exact")
SCHEDULES = ("constant", "cosine")
HEADS = ("linear", "mlp")
CLASS_WEIGHTS = ("none", "balanced")
ON_BAD_IMAGE = ("stop", "skip")
FEATURE_PRECISIONS = ("auto", "fp32", "bf16")
ENGINES = ("auto", "openvino", "cuda", "torch")
TRAINER_PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
ON_ISSUE = ("tell", "stop")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
_LARGEST_SEED = 2**32 - 1
# What train.py reads and a run does not depend on.
_OF_THE_COMMAND = ("best_of", "hpo", "hydra", "attach", "stop", "sagemaker")


def load(composed: DictConfig, overrides: list[str]) -> TrainConfig:
    """Turns a composed config into a checked `TrainConfig`.

    With `resume=<run directory>` the run continues with the config it was started with, so that its result
    is the one that an uninterrupted run would have had; nothing else can be changed with it.

    Args:
        composed: What Hydra composed from conf/ and the command line.
        overrides: The command line's own overrides, to tell a change from a default.

    Raises:
        ConfigError: A setting is impossible, or `resume` does not name a run directory.
    """
    searched = [one for one in overrides if one.startswith("hpo")]
    # A search's best values name the hpo they were found with, which is no wish to search again.
    own = [one for one in searched if composed.best_of is None or one.startswith("hpo.")]
    if own:
        raise ConfigError(f"{' '.join(own)} is for a search, which -m begins: python train.py -m {' '.join(own)}")
    if composed.resume is None:
        return check(_typed(composed))
    directory = Path(composed.resume)
    others = [other for other in overrides if not other.startswith("resume=")]
    if others:
        raise ConfigError(
            f"resume={directory} continues that run with its own config, so {' '.join(others)} cannot apply. "
            "Leave it out, or start a new run with it."
        )
    saved = directory / RUN_CONFIG
    if not saved.is_file():
        if (directory / SEARCH_CONFIG).is_file():
            raise ConfigError(f"resume={directory} is a search: python train.py -m {override('resume', directory)}")
        raise ConfigError(f"resume={directory}: no {RUN_CONFIG} there, so it is not a run directory of train.py.")
    config = check(load_saved(saved))
    config.resume = str(directory)
    config.run_dir = str(directory)
    return config


def launch_settings(composed: DictConfig) -> SagemakerConfig:
    """Returns the checked section `sagemaker` of a composed config.

    Raises:
        ConfigError: A setting is impossible.
    """
    try:
        settings = OmegaConf.to_object(composed.sagemaker)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    assert isinstance(settings, SagemakerConfig)
    return check_launch(settings)


def check_launch(settings: SagemakerConfig, *, serves: bool = False) -> SagemakerConfig:
    """Refuses settings of SageMaker that are impossible, or that need more packages than there are.

    Args:
        settings: The section `sagemaker`.
        serves: Endpoints are started or asked, whose container a rehearsal has to run.

    Raises:
        ConfigError: One line per setting.
    """
    needed = {"boto3": "sagemaker", "sagemaker": "sagemaker"}
    if settings.rehearsal:
        needed |= {"moto": "rehearsal", "sagemaker_training": "rehearsal"} | ({"ray": "serve"} if serves else {})
    missing = {extra for package, extra in needed.items() if find_spec(package) is None}
    if missing:
        raise ConfigError(f"This needs more packages: pip install 'dogbreeds[{','.join(sorted(missing))}]'.")
    problems = [
        *_below("sagemaker.instances", settings.instances, 1),
        *_below("sagemaker.volume_gb", settings.volume_gb, 1),
        *_below("sagemaker.hours", settings.hours, 0, allow_equal=False),
        *_below("sagemaker.wait_hours", settings.wait_hours, 0),
        *_below("sagemaker.retries", settings.retries, 0),
        *_below("sagemaker.checkpoint_seconds", settings.checkpoint_seconds, 0),
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return settings


def command_settings(composed: DictConfig, schema: type[Settings]) -> Settings:
    """Returns all settings of a command; a section `sagemaker` is not looked at.

    Raises:
        ConfigError: A setting is missing or cannot be read.
    """
    try:
        settings = OmegaConf.to_object(composed)
    except MissingMandatoryValue as error:
        missing = ", ".join(f"{name}=<value>" for name in sorted(OmegaConf.missing_keys(composed)))
        raise ConfigError(f"Add {missing}: there is no default.") from error
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    assert isinstance(settings, schema)
    return settings


def places(composed: DictConfig) -> TrainConfig:
    """Returns a composed config for the places that it names, which need not be there.

    Raises:
        ConfigError: It is no config.
    """
    return _typed(composed)


def read_yaml(path: Path) -> Any:
    """Returns the content of a file that the program wrote.

    Raises:
        ConfigError: It is no YAML; the message says which file and why.
    """
    try:
        return OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path} is damaged, or something else ({reason}).") from error


def save(config: TrainConfig, path: Path) -> None:
    """Writes the config as YAML that `load` reads back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        OmegaConf.save(OmegaConf.structured(config), temporary)


def load_saved(path: Path) -> TrainConfig:
    """Reads what `save` wrote.

    Raises:
        ConfigError: Somebody has changed it so that it is no config any more.
    """
    return _typed(OmegaConf.create(read_yaml(path)))


def trial(composed: DictConfig, directory: Path) -> TrainConfig:
    """Returns the config of one trial of a search.

    Args:
        composed: What Hydra composed for it; it is changed to say where.
        directory: Where it is written.

    Raises:
        ConfigError: A setting is impossible. That there are photos is for the search to see, once.
    """
    composed.resume, composed.run_dir = None, str(directory)
    return check_settings(_typed(composed))


def _typed(composed: Any) -> TrainConfig:
    try:
        # A plain copy, so that keys added with + are unknown keys too.
        own = OmegaConf.masked_copy(composed, [name for name in composed if name not in _OF_THE_COMMAND])
        plain: Any = OmegaConf.to_container(own, resolve=True)
        _collect_arguments(plain.get("trainer", {}))
        merged = OmegaConf.merge(OmegaConf.structured(TrainConfig), plain)
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        lines = [line for line in str(error).splitlines() if "object_type=" not in line]
        raise ConfigError("\n".join(lines)) from error
    assert isinstance(config, TrainConfig)
    return config


def _collect_arguments(trainer: dict[str, Any]) -> None:
    """Moves what else was typed as `trainer.<argument>` into `trainer.arguments`."""
    known = {field.name for field in fields(TrainerConfig)}
    for name in [name for name in trainer if name not in known]:
        trainer.setdefault("arguments", {})[name] = trainer.pop(name)


def check(config: TrainConfig) -> TrainConfig:
    """Refuses what cannot work, listing everything that is wrong at once.

    Raises:
        ConfigError: One line per setting: what it is, and what it may be.
        DataError: `data.dir` is missing, empty, or holds one class only.
    """
    check_settings(config)
    check_photos(config)
    return config


def check_photos(config: TrainConfig) -> None:
    """Refuses a `data.dir` that is missing, empty, or holds one class only.

    Raises:
        DataError: The message says what is there.
    """
    find_photos(Path(config.data.dir))


def check_settings(config: TrainConfig) -> TrainConfig:
    """Does what `check` does, and does not look at the photos.

    Raises:
        ConfigError: One line per setting: what it is, and what it may be.
    """
    # Needs numpy, which --help has no time for.
    from dogbreeds.debug.catalogue import rule_problems

    data, model, features, trainer = config.data, config.model, config.features, config.trainer
    problems = [
        *_below("lr", config.lr, 0, allow_equal=False),
        *_below("batch_size", config.batch_size, 1),
        *_below("epochs", config.epochs, 1),
        *_below("seed", config.seed, 0),
        *_below("weight_decay", config.weight_decay, 0),
        *_below("patience", config.patience, 1),
        *_below("features.batch_size", 1 if features.batch_size is None else features.batch_size, 1),
        *_below("data.views", data.views, 0),
        *_below("model.examples", model.examples, 0),
        *_below("cache.max_gb", config.cache.max_gb, 0, allow_equal=False),
        *_below("data.workers", 0 if data.workers is None else data.workers, 0),
        *_below("model.unfreeze_lr_scale", model.unfreeze_lr_scale, 0, allow_equal=False),
        *_not_one_of("optimizer", config.optimizer, OPTIMIZERS),
        *_not_one_of("schedule", config.schedule, SCHEDULES),
        *_not_one_of("data.on_bad_image", data.on_bad_image, ON_BAD_IMAGE),
        *_not_one_of("model.head", model.head, HEADS),
        *_not_one_of("model.class_weights", model.class_weights, CLASS_WEIGHTS),
        *_not_one_of("features.engine", features.engine, ENGINES),
        *_not_one_of("features.precision", features.precision, FEATURE_PRECISIONS),
        *_not_one_of("trainer.precision", trainer.precision, TRAINER_PRECISIONS),
        *_not_one_of("trainer.accelerator", trainer.accelerator, ACCELERATORS),
        *_model_problems(model),
        *_below("debugger.train_every", config.debugger.train_every, 1),
        *_below("debugger.eval_every", config.debugger.eval_every, 1),
        *_below("debugger.flush_every", config.debugger.flush_every, 1),
        *_not_one_of("debugger.on_issue", config.debugger.on_issue, ON_ISSUE),
        *_below("profiler.system_seconds", config.profiler.system_seconds or 0.1, 0.1),
        *_below("profiler.trace_steps", config.profiler.trace_steps, 0),
        *rule_problems(config.debugger.rules),
        *_trainer_problems(config),
        *_exact_problems(config),
    ]
    if config.seed > _LARGEST_SEED:
        problems.append(f"seed={config.seed}: must be at most {_LARGEST_SEED}.")
    if not 0 <= model.dropout < 1:
        problems.append(f"model.dropout={model.dropout}: must be at least 0 and below 1.")
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _trainer_problems(config: TrainConfig) -> list[str]:
    trainer = config.trainer
    if not trainer.arguments and trainer.strategy in ("auto", "ddp") and trainer.devices in ("auto", "1"):
        # conf/trainer as it is: no need to import Lightning, which a launch does without.
        return []
    from dogbreeds.training.trainer import trainer_problems

    return trainer_problems(config)


def _model_problems(model: ModelConfig) -> list[str]:
    problems = _not_one_of("model.backbone", model.backbone, tuple(BACKBONES))
    if model.head == "mlp" and (not model.hidden or min(model.hidden) < 1):
        problems.append(f"model.hidden={model.hidden}: model.head=mlp needs one or more widths, such as [256].")
    if model.backbone in BACKBONES and model.unfreeze is not None:
        problems += _not_one_of("model.unfreeze", model.unfreeze, BACKBONES[model.backbone])
    if model.weights not in WEIGHTS and not Path(model.weights).is_file():
        problems.append(f"model.weights={model.weights}: no such file. It may be imagenet, random or a file.")
    return problems


def _exact_problems(config: TrainConfig) -> list[str]:
    if config.optimizer != "exact":
        return []
    needs = {
        f"weight_decay={config.weight_decay}": (config.weight_decay > 0, "above 0, such as weight_decay=0.03"),
        f"model.head={config.model.head}": (config.model.head == "linear", "model.head=linear"),
        f"model.unfreeze={config.model.unfreeze}": (config.model.unfreeze is None, "model.unfreeze=null"),
        f"data.views={config.data.views}": (config.data.views == 0, "data.views=0"),
    }
    return [f"{found}: optimizer=exact needs {what}." for found, (fine, what) in needs.items() if not fine]


def _below(name: str, value: float, limit: float, *, allow_equal: bool = True) -> list[str]:
    # Written so that NaN, which compares false with everything, is refused too.
    if value < float("inf") and (value >= limit if allow_equal else value > limit):
        return []
    return [f"{name}={value}: must be {'at least' if allow_equal else 'above'} {limit} and finite."]


def _not_one_of(name: str, value: str, valid: tuple[str, ...]) -> list[str]:
    return [] if value in valid else [f"{name}={value}: must be one of {', '.join(valid)}."]
