"""What a job does, as hyperparameters beside the settings of the run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from dogbreeds.errors import ConfigError
from dogbreeds.sagemaker.protocol.hyperparameters import PREFIX

#: A training run, one trial of a tuning job, the features alone, a whole search in one job.
TRAIN, TRIAL, FEATURES, SEARCH = ("train", "trial", "features", "search")
# Characters of a hyperparameter's value (CreateTrainingJob).
_MAX_VALUE = 2500
TASK, _SECONDS, _ARGUMENTS = (f"{PREFIX}{name}" for name in ("task", "checkpoint_seconds", "arguments"))


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
