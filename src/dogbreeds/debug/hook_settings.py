"""What the smdebug hook saves, when and where: as the job configures it, or as the replaced systems did.

smdebug is no longer maintained and needs old versions of other packages: it is imported only where a run asks for it.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from dogbreeds.errors import ConfigError

#: The name of the training loss, which comes from a module; its tensor is `CrossEntropyLoss_output_0`.
LOSS = "CrossEntropyLoss"
# Of the loss alone, as in the replaced systems.
_LOSS_TRAIN_EVERY, _LOSS_EVAL_EVERY = 10, 1
# Files by which smdebug marks a directory in use, and one whose run has ended.
_MARKS = ("claim.smd", "training_job_end.ts")
_WRITTEN = ("events", "index", "collections")
_HELP = (
    "smdebug needs an environment of its own, with Python 3.11 or 3.12:\n"
    "  pip install -c constraints-smdebug.txt '.[smdebug]'    (`make test-smdebug` tries it out)\n"
    "debugger=default records the same and judges it by rules of its own, without smdebug."
)


def check_smdebug() -> None:
    """Imports smdebug, so that a run without it ends before anything costs time.

    Raises:
        ConfigError: smdebug is not installed, or does not work with what is installed beside it.
    """
    # It would print lines between our own at every start.
    os.environ.setdefault("SMDEBUG_LOG_LEVEL", "warning")
    try:
        import smdebug.pytorch  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(f"debugger=smdebug: module {error.name} is not installed. {_HELP}") from error
    except (ImportError, TypeError) as error:
        # Newer versions of protobuf raise TypeError at the code that was generated for smdebug.
        reason = str(error).splitlines()[0]
        raise ConfigError(f"debugger=smdebug: smdebug cannot be imported ({reason}). {_HELP}") from error
    import numpy as np

    if not hasattr(np.ndarray, "tostring"):
        raise ConfigError(f"debugger=smdebug: smdebug cannot write tensors with numpy {np.__version__}. {_HELP}")


def new_hook(out_dir: Path, train_every: int, eval_every: int, *, relus: bool, resumed: bool) -> Any:
    """Returns a hook of smdebug, which must be installed.

    The configuration of a job comes first: the file that `$SMDEBUG_CONFIG_FILE_PATH` names, or the one that SageMaker
    puts into a container. Without one, the arguments apply.

    Args:
        out_dir: Where the tensors go; what an earlier run wrote there is replaced.
        train_every: Optimizer steps from one saving to the next, of all but the loss, which has every 10.
        eval_every: Validation batches from one saving to the next, of all but the loss, which has each.
        relus: Save what goes into and comes out of the ReLUs of a head too.
        resumed: The run continues the series in the directory.
    """
    from smdebug.core.config_constants import CONFIG_FILE_PATH_ENV_STR, DEFAULT_CONFIG_FILE_PATH
    from smdebug.core.utils import error_handling_agent

    # An error of an earlier run in this process may have switched all of smdebug off.
    error_handling_agent.disable_smdebug = False
    named, default = os.environ.get(CONFIG_FILE_PATH_ENV_STR), Path(DEFAULT_CONFIG_FILE_PATH)
    if named or default.is_file():
        return _supplied(Path(named or default), resumed)
    _unmark(out_dir)
    if not resumed:
        for name in _WRITTEN:
            shutil.rmtree(out_dir / name, ignore_errors=True)
    return _own(out_dir, train_every, eval_every, relus)


def _supplied(config: Path, resumed: bool) -> Any:
    from smdebug.core.json_config import collect_hook_config_params, get_json_config_as_dict
    from smdebug.pytorch import Hook

    try:
        directory = Path(collect_hook_config_params(get_json_config_as_dict(config))["out_dir"])
        if resumed:
            _unmark(directory)
        elif any((directory / mark).exists() for mark in _MARKS):
            said = f"{config}: its LocalPath {directory} holds the tensors of another run."
            raise ConfigError(f"{said} Remove them, or name another directory there.")
        return Hook.create_from_json_file(str(config))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{config} cannot be used to configure the smdebug hook: {error}") from error


def _own(out_dir: Path, train_every: int, eval_every: int, relus: bool) -> Any:
    from smdebug.core.collection import CollectionKeys
    from smdebug.pytorch import Hook, SaveConfig, SaveConfigMode, modes

    def every(train: int, evaluation: int) -> Any:
        intervals = {modes.TRAIN: train, modes.EVAL: evaluation}
        return SaveConfig({mode: SaveConfigMode(save_interval=steps) for mode, steps in intervals.items()})

    loss = f"{LOSS}_output_0"
    named = {loss: loss}
    if relus:
        # A tail's would be gigabytes, and no rule needs to look at how its weights were initialised.
        named |= {f"relu_{way}": rf"^head\..*relu_{way}" for way in ("input", "output")}
    kept = (CollectionKeys.LOSSES, CollectionKeys.WEIGHTS, CollectionKeys.BIASES, CollectionKeys.GRADIENTS)
    hook = Hook(out_dir=str(out_dir), save_config=every(train_every, eval_every), include_collections=[*named, *kept])
    for name, pattern in named.items():
        hook.get_collection(name).include(pattern)
    # A tensor is saved whenever one of its collections is, so the two that hold the loss keep to one schedule.
    for name in (loss, CollectionKeys.LOSSES):
        hook.get_collection(name).save_config = every(_LOSS_TRAIN_EVERY, _LOSS_EVAL_EVERY)
    return hook


def _unmark(directory: Path) -> None:
    """Lets smdebug write where a run ended or was killed: it would refuse, or write nothing."""
    for mark in _MARKS:
        (directory / mark).unlink(missing_ok=True)
