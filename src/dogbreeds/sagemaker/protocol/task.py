"""What a job is to do, beside the settings of the run: hyperparameters that are none of Hydra's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from dogbreeds.errors import ConfigError
from dogbreeds.sagemaker.protocol.hyperparameters import LONGEST_VALUE, PREFIX, crosses

#: What the toolkit starts, in the code of a job: the hyperparameter `sagemaker_program`.
PROGRAM = "src/dogbreeds/sagemaker/job/entry_point.py"
#: A training run; one trial of a tuning job; the features alone; a whole search in one job.
TRAIN, TRIAL, FEATURES, SEARCH = TASKS = ("train", "trial", "features", "search")
_TASK, _SECONDS, _ARGUMENTS = (f"{PREFIX}{name}" for name in ("task", "checkpoint_seconds", "arguments"))


@dataclass(frozen=True)
class Task:
    """What a job is to do.

    Attributes:
        kind: One of `TASKS`.
        checkpoint_seconds: From one checkpoint that survives an interruption to the next, at least.
        arguments: Of a search, the command line's overrides, sweeps and all.
    """

    kind: str
    checkpoint_seconds: float
    arguments: tuple[str, ...] = ()

    def encode(self) -> dict[str, str]:
        """Returns the hyperparameters that stand beside those of the settings.

        Raises:
            ConfigError: The command line is longer than a job takes.
        """
        arguments = json.dumps(self.arguments)
        if len(arguments) > LONGEST_VALUE:
            raise ConfigError(f"A search in one job takes a command line of {LONGEST_VALUE:,} characters at most.")
        sent = {_TASK: self.kind, _SECONDS: repr(float(self.checkpoint_seconds))}
        return sent | {_ARGUMENTS: arguments} if self.arguments else sent

    @classmethod
    def decode(cls, hyperparameters: Mapping[str, object]) -> Task:
        """Returns what hyperparameters say, with the types that they have in `SM_HPS`.

        Of a command line, what concerns the place of a run is left out.

        Raises:
            ConfigError: They say nothing that a job can do.
        """
        kind, seconds = hyperparameters.get(_TASK), hyperparameters.get(_SECONDS)
        arguments = hyperparameters.get(_ARGUMENTS, [])
        if kind not in TASKS:
            raise ConfigError(f"The hyperparameter {_TASK}={kind} must be one of {', '.join(TASKS)}.")
        if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
            raise ConfigError(f"The hyperparameter {_SECONDS}={seconds} must be a number of seconds.")
        if not isinstance(arguments, list) or not all(isinstance(one, str) for one in arguments):
            raise ConfigError(f"The hyperparameter {_ARGUMENTS}={arguments} must be a list of overrides.")
        return cls(str(kind), float(seconds), tuple(one for one in arguments if _of_a_search(one)))


def _of_a_search(argument: str) -> bool:
    """Says whether an override concerns the search itself, and not where it is written or launched."""
    name = argument.split("=")[0].lstrip("+~")
    return crosses(name) or name.split(".")[0] == "hpo"
