"""What all entry points share: compose the config, run the task, turn mistakes into short messages.

Only this module and the scripts that use it touch Hydra. Nothing heavy is imported here, so that
`python train.py --help` answers at once.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import hydra
import platformdirs
from hydra.core.config_store import ConfigStore
from hydra.errors import CompactHydraException, HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dogbreeds.errors import ConfigError, UserError, did_you_mean
from dogbreeds.overrides import hydra_value
from dogbreeds.schema import SCHEMAS, TrainConfig, TrainerConfig, key_names

#: When the command was typed, as nearly as Python can tell.
BEGAN = time.time()

Task = Callable[[DictConfig], None]

# Groups of conf/ that the scripts choose from as well. Beside the group conf/model, Hydra would look there for what
# `model=<package>` names, so that their own configs are in a folder of their own.
_SHARED_GROUPS = ("sagemaker", "hydra/job_logging")
_SCRIPTS = "scripts"

_UNKNOWN_KEY = re.compile(r"[Kk]ey '(?P<key>[^']+)' (?:is )?not in")


def entry_point(
    config_name: str, lists: tuple[str, ...] = (), instead: Mapping[str, str] | None = None
) -> Callable[[Task], Callable[[], None]]:
    """Makes a command of a task: `@entry_point("train")` reads conf/train.yaml and the command line.

    A mistake of the user ends with one or two lines on stderr and exit code 2; an unexpected
    exception keeps its traceback and exits with 1.

    Args:
        config_name: Name of the primary config, without `.yaml`.
        lists: Settings that are typed as `key=a,b`, which Hydra would take for a sweep.
        instead: Settings that other commands take, and what this one takes instead.
    """

    def decorate(task: Task) -> Callable[[], None]:
        def command() -> None:
            register()
            user_wants_traceback = bool(os.environ.get("HYDRA_FULL_ERROR"))
            # Hydra then raises its errors instead of printing them and leaving with its own exit code.
            os.environ["HYDRA_FULL_ERROR"] = "1"
            try:
                sys.argv[1:] = _arranged([_bracketed(argument, lists) for argument in sys.argv[1:]])
                _refuse(sys.argv[1:], instead or {})
                primary = _config_file(task, config_name)
                if primary.parent.name == _SCRIPTS:
                    share_groups(primary.parents[1])
                run = hydra.main(version_base="1.3", config_path=str(primary.parent), config_name=config_name)
                run(_guard(task))()
            except UserError as error:
                _leave(str(error), error.exit_code)
            except (CompactHydraException, OmegaConfBaseException) as error:
                if user_wants_traceback:
                    raise
                _leave(explain(error, primary), UserError.exit_code)
            except ValueError as error:
                # Hydra's own, of a command line with two commands.
                if not str(error).startswith("Only one of --"):
                    raise
                _leave(str(error), UserError.exit_code)
            except BrokenPipeError:
                _leave_quietly()
            except KeyboardInterrupt:
                _leave("Stopped. What was finished is kept.", 130)

        return command

    return decorate


def _bracketed(argument: str, lists: tuple[str, ...]) -> str:
    name, _, value = argument.partition("=")
    if name not in lists or value.startswith("["):
        return argument
    return f"{name}=[{','.join(hydra_value(one) for one in value.split(','))}]"


def _refuse(arguments: list[str], instead: Mapping[str, str]) -> None:
    for name in map(_name, arguments):
        if name in instead:
            raise ConfigError(f"{name} changes nothing here: {instead[name]} is what this command takes.")


def _arranged(arguments: list[str]) -> list[str]:
    """Returns a command line as Hydra takes it: `-m` first, and the values that `best_of` stands for in its place.

    What else was typed wins over those values.
    """
    flags = [argument for argument in arguments if argument in ("-m", "--multirun")][:1]
    rest = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    typed = {_name(argument): argument for argument in rest}
    if "best_of" not in typed:
        return [*flags, *rest]

    from dogbreeds.hpo.leaderboard import best_overrides
    from dogbreeds.overrides import value_of

    try:
        place = value_of(typed["best_of"].partition("=")[2])
    except HydraException:
        # Hydra will say of the whole command line what is wrong with it.
        place = None
    if not place:
        return [*flags, *rest]
    if "resume" in typed:
        raise ConfigError(
            "best_of begins a run with the best values of a search, and resume continues one: leave one out."
        )
    best = [override for override in best_overrides(Path(str(place))) if _name(override) not in typed]
    position = rest.index(typed["best_of"])
    return [*flags, *rest[:position], *best, *rest[position:]]


def _name(override: str) -> str:
    return override.split("=")[0].lstrip("+~")


def _guard(task: Task) -> Task:
    """Ends the process at a user's mistake, before Hydra adds its own lines to the message."""

    @functools.wraps(task)
    def guarded(cfg: DictConfig) -> None:
        try:
            task(cfg)
        except UserError as error:
            _leave(str(error), error.exit_code)
        except BrokenPipeError:
            _leave_quietly()

    return guarded


def register() -> None:
    """Makes the schemas and the resolvers of conf/ known to Hydra; calling it again does nothing."""
    store = ConfigStore.instance()
    for name, schema in SCHEMAS.items():
        store.store(name=f"{name}_schema", node=_open(schema))
    if not OmegaConf.has_resolver("or"):
        OmegaConf.register_new_resolver("or", lambda value, other: other if value is None else value)
        OmegaConf.register_new_resolver("user_cache", lambda: platformdirs.user_cache_dir("dogbreeds"))


def _open(schema: type) -> DictConfig:
    """Returns a schema whose sections trainer, logger and callbacks take further keys, typed without a plus sign."""
    node: DictConfig = OmegaConf.structured(schema)
    if issubclass(schema, TrainConfig):
        for section, empty in (("trainer", TrainerConfig()), ("logger", {}), ("callbacks", {})):
            node[section] = empty
            OmegaConf.set_struct(node[section], False)
    return node


def share_groups(conf: Path) -> None:
    """Lets the configs in a folder of their own choose from groups of conf/ too."""
    store = ConfigStore.instance()
    for group in _SHARED_GROUPS:
        for file in (conf / group).glob("*.yaml"):
            store.store(group=group, name=file.stem, node=OmegaConf.load(file))


def _config_file(task: Task, name: str) -> Path:
    """The primary config in the nearest folder conf, or conf/scripts, at or above the script of the task."""
    script = Path(task.__code__.co_filename).resolve()
    for parent in script.parents:
        for file in (parent / "conf" / f"{name}.yaml", parent / "conf" / _SCRIPTS / f"{name}.yaml"):
            if file.is_file():
                return file
    raise UserError(f"No conf/{name}.yaml beside or above {script}: run the script from a checkout of the project.")


def explain(error: Exception, primary: Path) -> str:
    """Returns Hydra's message without its advice for programmers, and with the names that exist.

    Args:
        error: Of Hydra or OmegaConf.
        primary: The primary config that was composed.
    """
    causes: list[str] = []
    current: BaseException | None = error
    while current is not None:
        text = str(current).strip()
        if text and not any(text in known or known in text for known in causes):
            causes.append(text)
        current = current.__cause__
    lines = "\n".join(causes).splitlines()
    message = "\n".join(line for line in lines if line.strip() and "object_type=" not in line)
    message = message.split("\nConfig search path:")[0]
    unknown = _UNKNOWN_KEY.search(message)
    if unknown:
        full = re.search(r"full_key: (\S+)", message)
        return _unknown_key(full[1] if full else unknown["key"], _setting_names(primary))
    if "Error parsing override" in message:
        message += "\nA value with spaces, commas, brackets or '=' needs quotes inside quotes: 'key=\"a value\"'."
    return message


def _setting_names(primary: Path) -> list[str]:
    """The settings of a primary config, from its schema or, where it has none, from the file itself."""
    if primary.stem in SCHEMAS:
        return key_names(SCHEMAS[primary.stem])
    names = [str(name) for name in OmegaConf.load(primary)]
    return [name for name in names if name not in ("defaults", "hydra")]


def _unknown_key(key: str, names: list[str]) -> str:
    return f"Unknown setting '{key}'. {did_you_mean(key, names)}Settings are: {', '.join(names)}."


def _leave_quietly() -> None:
    """Ends the process when the reader of a pipe, such as `head`, has left: nobody is there to be told."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


def _leave(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)
