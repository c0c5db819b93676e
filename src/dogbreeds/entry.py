"""From a command line to a task, where mistakes of the user become short messages.

Nothing heavy is imported here, so that `python train.py --help` answers at once.
"""

import functools
import gc
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from dogbreeds.arguments import arranged
from dogbreeds.command_schemas import SCHEMAS
from dogbreeds.composing import REFUSALS, explain
from dogbreeds.config import command_settings
from dogbreeds.errors import DISK_ERRORS, ConfigError, PlaceError, UserError
from dogbreeds.help_page import page
from dogbreeds.installation import conf_directory
from dogbreeds.overrides import name_of
from dogbreeds.schema import TrainConfig

#: When the command was typed, as nearly as Python can tell.
BEGAN = time.time()

#: Takes the checked settings of a command; where they are those of a run too, what Hydra composed.
Task = Callable[[Any], None]
#: Runs with the arguments given, or with those of the process.
Command = Callable[..., None]

_FULL_ERROR = "HYDRA_FULL_ERROR"
# Answered here: Hydra composes a config first, and lists all groups, which takes most of a second.
_HELP = ("--help", "-h")


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
    except UnicodeDecodeError as error:
        raise ConfigError(f"A file in --config-dir is not UTF-8 ({error.reason}): save it as UTF-8.") from error
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
    except REFUSALS as error:
        if user_wants_traceback:
            raise
        _leave(explain(error, primary, arguments), UserError.exit_code)
    except ValueError as error:
        # Hydra's own, about its options and groups.
        if not str(error).startswith(("Only one of --", "The --resolve flag", "Expecting one sub", "Config group ov")):
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


def _leave(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)
