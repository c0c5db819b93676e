"""Settings, and what a job does, as hyperparameters, which are strings, and back with their types.

AWS's training toolkit parses each string as JSON where it can, and otherwise takes it literally; a tuning job writes
the values that it chose in the same way. So a text is sent literally unless it would be parsed as something else.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from dogbreeds.errors import ConfigError
from dogbreeds.overrides import hydra_value

#: Begins the names of hyperparameters that say what a job does; they are not settings of a run.
PREFIX = "dogbreeds_"
# Those of the toolkit, and of a tuning job.
_OTHERS = (PREFIX, "sagemaker_", "_tuning_")
# Paths differ inside the job.
_LOCAL = ("data.dir", "cache.dir", "debugger.managed")
_LOCAL_SECTIONS = ("hydra", "paths", "hpo", "sagemaker", "attach", "stop", "best_of", "resume", "run_dir")
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_PLAIN = re.compile(r"[ -~]*")
#: A training run, one trial of a tuning job, the features alone, a whole search in one job.
TRAIN, TRIAL, FEATURES, SEARCH = ("train", "trial", "features", "search")
# Characters of a hyperparameter's value (CreateTrainingJob).
_MAX_VALUE = 2500
TASK, _SECONDS, _ARGUMENTS = (f"{PREFIX}{name}" for name in ("task", "checkpoint_seconds", "arguments"))


def is_sent(name: str) -> bool:
    """Says whether a job gets a setting or config group: it concerns the run, not this machine."""
    return name not in _LOCAL and re.split(r"[./]", name)[0] not in _LOCAL_SECTIONS


def encode(overrides: Mapping[str, object]) -> dict[str, str]:
    """Returns settings, by their dotted names, as hyperparameters; those of this machine are left out.

    Raises:
        ConfigError: The toolkit cannot take them; the message names the setting.
    """
    return {name: encode_value(name, value) for name, value in overrides.items() if is_sent(name)}


def encode_value(name: str, value: object) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name} is not a valid hyperparameter name.")
    try:
        hydra_value(value)
        text = value if isinstance(value, str) and _is_itself(value) else json.dumps(value, allow_nan=False)
        texts = _texts(value)
        # The toolkit puts them into environment variables.
        texts.encode()
        if "\0" in texts:
            raise ValueError("it has a null character")
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}={value!r} cannot be sent to a job: {error}.") from error
    return text


def decode(hyperparameters: Mapping[str, object]) -> list[str]:
    """Returns hyperparameters as overrides in Hydra's grammar, without those of the toolkit and the tuning job.

    They have the types that they have in `SM_HPS`.
    """
    sent = {name: value for name, value in sorted(hyperparameters.items()) if not name.startswith(_OTHERS)}
    # A dictionary may have keys that the defaults lack.
    return [f"{'++' * isinstance(value, Mapping)}{name}={hydra_value(value)}" for name, value in sent.items()]


def _is_itself(text: str) -> bool:
    """Says whether the toolkit leaves a text as it is; the service takes single lines."""
    if not _PLAIN.fullmatch(text) or text != text.strip() or not text:
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        # JSON that is nested too deep to be read would crash the toolkit.
        return isinstance(error, ValueError)
    return False


def _texts(value: object) -> str:
    """All texts in a value, joined."""
    if isinstance(value, dict):
        return "".join(map(_texts, [*value, *value.values()]))
    return "".join(map(_texts, value)) if isinstance(value, list | tuple) else value if isinstance(value, str) else ""


@dataclass(frozen=True)
class Task:
    """What a job does, one of the kinds above, and the shortest time between two checkpoints that are kept.

    `arguments` are the overrides of the command line of a search, with its sweeps.
    """

    kind: str
    checkpoint_seconds: float
    arguments: tuple[str, ...] = ()

    def encode(self) -> dict[str, str]:
        arguments = json.dumps(self.arguments)
        if len(arguments) > _MAX_VALUE:
            raise ConfigError(f"The command line of a search in one job must have at most {_MAX_VALUE:,} characters.")
        sent = {TASK: self.kind, _SECONDS: repr(float(self.checkpoint_seconds))}
        return sent | {_ARGUMENTS: arguments} if self.arguments else sent

    @classmethod
    def decode(cls, hyperparameters: Mapping[str, Any]) -> Self:
        """Returns the task of a job, whose hyperparameters have the types of `SM_HPS`."""
        arguments = tuple(hyperparameters.get(_ARGUMENTS, ()))
        return cls(hyperparameters[TASK], float(hyperparameters[_SECONDS]), arguments)
