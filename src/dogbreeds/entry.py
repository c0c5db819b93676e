"""From a command line to a task: arrange the arguments, compose the config, turn mistakes into short messages.

Nothing heavy is imported here, so that `python train.py --help` answers at once.
"""

import functools
import gc
import io
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import hydra
import platformdirs
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import setup_globals
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from dogbreeds.arguments import Reader
from dogbreeds.command_schemas import SCHEMAS
from dogbreeds.config import command_settings
from dogbreeds.directories import run_directory
from dogbreeds.errors import DISK_ERRORS, ConfigError, PlaceError, UserError
from dogbreeds.explanations import explained
from dogbreeds.files import yaml_beside
from dogbreeds.help_page import described, groups, page
from dogbreeds.installation import conf_directory
from dogbreeds.overrides import name_of, value_of
from dogbreeds.schema import TrainConfig, TrainerConfig, key_types

#: When the command was typed, as nearly as Python can tell.
BEGAN = time.time()

#: Takes the checked settings of a command; where they are those of a run too, what Hydra composed.
Task = Callable[[Any], None]
#: Runs with the arguments given, or with those of the process.
Command = Callable[..., None]

_FULL_ERROR = "HYDRA_FULL_ERROR"
_MULTIRUN = ("--multirun", "-m")
# Answered here: Hydra composes a config first, and lists all groups, which takes most of a second.
_HELP = ("--help", "-h")
_OPTIONS: Mapping[str, list[str]] = yaml_beside(__file__, "hydra_options.yaml")
# Hydra's own settings that are paths, and what it or safetensors cannot have in them.
_PLACES = {"hydra.run.dir": str, "hydra.sweep.dir": str}
_UNWRITABLE = re.compile(r"\\\$\{|[\ud800-\udfff]")
_INFO = ("--info", "-i")
# Of Hydra, of OmegaConf, and of a YAML file in a directory of the person's own.
_REFUSALS = (CompactHydraException, OmegaConfBaseException, MarkedYAMLError)


def entry_point(
    name: str, *, renamed: Mapping[str, str] | None = None, directory: Path | None = None
) -> Callable[[Task], Command]:
    """Makes a command of a task: `@entry_point("train")` reads conf/train.yaml and the command line.

    A mistake of the user ends with one or two lines on stderr and exit code 2; an unexpected
    exception keeps its traceback and exits with 1.

    Args:
        name: Name of the primary config, without `.yaml`.
        renamed: Settings that have no effect here, each with the one to use.
        directory: Where the primary config lies; None is conf/.
    """
    schema = SCHEMAS.get(name)

    def decorate(task: Task) -> Command:
        @functools.wraps(task)
        def given(composed: DictConfig) -> None:
            task(composed if schema is None or issubclass(schema, TrainConfig) else command_settings(composed, schema))

        @functools.wraps(task)
        def run(arguments: Sequence[str] | None = None) -> None:
            typed = sys.argv[1:] if arguments is None else arguments
            primary = (directory or conf_directory()) / f"{name}.yaml"
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):
                    # A path may have bytes that are no text: they are printed as they were typed.
                    stream.reconfigure(errors="surrogateescape")
            with report_errors(primary, typed):
                if schema and any(argument in _HELP for argument in typed):
                    print(page(name))
                    return
                for one in typed:
                    if new := (renamed or {}).get(name_of(one)):
                        value = one.partition("=")[2] or "<value>"
                        raise ConfigError(f"{one} has no effect here; use {new}={value}.")
                run_hydra(primary, arranged(typed, name), given)

        return run

    return decorate


@contextmanager
def importing() -> Iterator[None]:
    """Keeps Python from looking for garbage among what is being imported: a fifth of importing torch and Lightning."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # What was imported stays, and need not be looked at later either.
        gc.freeze()
        if collected:
            gc.enable()


def run_hydra(primary: Path, arguments: Sequence[str], task: Task) -> None:
    """Lets Hydra compose a config and call a task, or do what its own options say.

    Hydra reads `sys.argv`, and raises its errors where an environment variable says so. The task sees neither change.
    """
    argv, full_error = sys.argv, os.environ.get(_FULL_ERROR)

    def restore() -> None:
        sys.argv = argv
        os.environ.pop(_FULL_ERROR, None)
        if full_error is not None:
            os.environ[_FULL_ERROR] = full_error

    @functools.wraps(task)
    def guarded(composed: DictConfig) -> None:
        restore()
        # Here, because Hydra would add lines of its own to what a task raises.
        with report_errors(primary, arguments):
            task(composed)

    sys.argv = [argv[0], *arguments]
    os.environ[_FULL_ERROR] = "1"
    try:
        hydra.main(version_base="1.3", config_path=str(primary.parent), config_name=primary.stem)(guarded)()
    except FileNotFoundError as error:
        # Hydra ends the process itself at what a task raises: this is about the directory that it makes.
        raise PlaceError(error.filename, error) from error
    finally:
        restore()


@contextmanager
def report_errors(primary: Path, arguments: Sequence[str]) -> Iterator[None]:
    """Ends the process with a short message where a user's mistake, a closed pipe or Ctrl-C is the reason.

    `primary` is the primary config of the command, and `arguments` its command line.
    """
    user_wants_traceback = bool(os.environ.get(_FULL_ERROR))
    try:
        yield
    except UserError as error:
        _leave(str(error), error.exit_code)
    except _REFUSALS as error:
        if user_wants_traceback:
            raise
        _leave(explain(error, primary, arguments), UserError.exit_code)
    except ValueError as error:
        # Hydra's own, about its options.
        if not str(error).startswith(("Only one of --", "The --resolve flag", "Expecting one subcommand")):
            raise
        _leave(str(error), UserError.exit_code)
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has left: nobody is there to read a message.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if user_wants_traceback or error.errno not in DISK_ERRORS:
            raise
        _leave(str(PlaceError(error.filename or "A disk", error)), PlaceError.exit_code)
    except KeyboardInterrupt:
        _leave("Stopped. Everything finished so far is kept.", 130)


def arranged(arguments: Sequence[str], name: str = "train", *, several: bool = False) -> list[str]:
    """Returns a command line as Hydra takes it: settings, then options, with what `best_of` stands for in its place.

    Settings that were typed win over those of `best_of`. They may have several values with -m, or where `several`
    says so.
    """
    from dogbreeds.hpo.settings import searchable

    register("train", name)
    rest, options = _split(arguments)
    schema = SCHEMAS.get(name)
    types = key_types(schema) if schema else {}
    reader = Reader(types | _PLACES, searchable() if "best_of" in types else (), groups(name) if schema else {})
    several = several or any(one in _MULTIRUN for one in options)
    rest = [reader.read(argument, several=several) for argument in rest]
    typed = {name_of(argument): argument for argument in rest}
    for name in typed:
        if name.endswith("dir") and value_of(typed[name].partition("=")[2]) in ("", None):
            raise ConfigError(f"{typed[name]}: name a directory.")
        if name in _PLACES and _UNWRITABLE.search(typed[name]):
            raise ConfigError(f"{name}: choose a directory whose name is UTF-8 and has no ${{ in it.")
    if several and "hydra.sweep.dir" not in typed and (place := typed.get("hydra.run.dir")):
        raise ConfigError(f"{place} has no effect on a search; use hydra.sweep.dir={place.partition('=')[2]}.")
    found = OmegaConf.create({"place": value_of(typed.get("best_of", "").partition("=")[2])})
    if not found.place:
        return [*rest, *options]

    from dogbreeds.hpo.leaderboard import best_overrides

    if "resume" in typed:
        both = "best_of starts a run with the best values of a search, and resume continues one"
        raise ConfigError(f"{both}: leave one out.")
    best = [override for override in best_overrides(Path(str(found.place))) if name_of(override) not in typed]
    position = rest.index(typed["best_of"])
    return [*rest[:position], *best, *rest[position:], *options]


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the settings of a command line, and Hydra's options with their values; argparse mixes the two up."""
    rest: list[str] = []
    options: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name = argument.partition("=")[0]
        if not argument.startswith("-"):
            rest.append(argument)
        elif name in _OPTIONS["value"] or (name in _INFO and waiting[:1] and waiting[0] in _OPTIONS["kind"]):
            options += [argument, *(waiting[:1] if name == argument else ())]
            del waiting[: name == argument]
        elif name in (*_OPTIONS["nothing"], *_INFO):
            if argument not in options:
                options.append(argument)
        else:
            plain = argument.lstrip("-")
            example = plain if plain.partition("=")[2] else f"{plain.rstrip('=')}=<value>"
            raise ConfigError(f"{argument}: settings are typed as key=value, without dashes: {example}")
    return rest, options


@functools.cache
def register(*names: str) -> None:
    """Makes the resolvers of conf/ and the schemas of some commands, or of all, known to Hydra, which copies them."""
    for name in names or SCHEMAS:
        if name in SCHEMAS:
            ConfigStore.instance().store(name=f"{name}_schema", node=_open(SCHEMAS[name]))
    setup_globals()
    OmegaConf.register_new_resolver("run_directory", run_directory, use_cache=True, replace=True)
    user_cache = functools.partial(platformdirs.user_cache_dir, "dogbreeds")
    OmegaConf.register_new_resolver("user_cache", user_cache, replace=True)
    OmegaConf.register_new_resolver("absolute", lambda path: str(Path(path).absolute()), replace=True)


def _open(schema: type) -> DictConfig:
    """Returns a schema whose tables, and the section trainer, take further keys, typed without a plus sign."""
    node: DictConfig = OmegaConf.structured(schema)
    for name, kind in get_type_hints(schema).items():
        if is_dataclass(kind) or get_origin(kind) is dict:
            node[name] = _open(kind) if isinstance(kind, type) and is_dataclass(kind) else {}
            if not is_dataclass(kind) or kind is TrainerConfig:
                OmegaConf.set_struct(node[name], False)
    return node


@contextmanager
def initialized(name: str, arguments: Sequence[str] = ()) -> Iterator[ConfigLoader]:
    """Lets `hydra.compose` read conf/, in place of a Hydra that is running already, and yields its loader."""
    register("train", name)
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_directory()), job_name=name, version_base="1.3"):
            yield GlobalHydra.instance().config_loader()
    except _REFUSALS as error:
        raise ConfigError(explain(error, conf_directory() / f"{name}.yaml", arguments)) from error
    finally:
        GlobalHydra.instance().clear()
        if running is not None:
            GlobalHydra.instance().initialize(running)


def explain(error: Exception, primary: Path, arguments: Sequence[str] = ()) -> str:
    """Returns Hydra's message without its advice for programmers, with names that exist and types that fit."""
    schema, given = SCHEMAS.get(primary.stem), {name_of(one): one.partition("=")[2] for one in arguments}
    # A primary config without a schema names its settings itself.
    own = {str(one): "" for one in OmegaConf.load(primary) if one not in ("defaults", "hydra")}
    return explained(error, schema, described(primary.stem) if schema else own, given.get)


def _leave(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)
