"""Checks requests before they are sent, and names the settings to change."""

import re
from collections.abc import Mapping
from typing import Any

from dogbreeds.errors import ConfigError, did_you_mean
from dogbreeds.files import yaml_beside
from local_sagemaker.rules.jobs import problems_between
from local_sagemaker.rules.service_model import problems

_DEFINITION = "TrainingJobDefinition."
#: The setting that a member of a request comes from; the longest matching path counts.
SETTINGS: Mapping[str, str] = yaml_beside(__file__, "settings.yaml")
# Members of a trial that come from another setting than those of a training job.
_OF_TRIALS = {"ResourceConfig.InstanceType": "sagemaker.trial_instance"}
_HYPERPARAMETER = re.compile(r"(?:Static)?HyperParameters\[(.+)\]")
_ONE_OF = re.compile(r"must be one of (?P<names>.+), got '(?P<given>.*)'")
_MAX_LISTED = 20


def check_request(operation: str, request: Mapping[str, Any], service: str = "sagemaker") -> None:
    """Refuses a request of an operation, such as `CreateTrainingJob`, that the service would refuse.

    Raises:
        ConfigError: One line per problem, with the setting to change. Rules between members are checked once every
            member is valid by itself.
    """
    if found := problems(operation, request, service) or problems_between(operation, request):
        lines = (f"{setting_of(one.path) or operation}: {one.path} {_shortened(one.message)}." for one in found)
        raise ConfigError("\n".join(lines))


def setting_of(path: str) -> str | None:
    """Returns the setting that a member of a request comes from; None where no setting does."""
    own = path.removeprefix(_DEFINITION)
    if hyperparameter := _HYPERPARAMETER.fullmatch(own):
        return None if hyperparameter[1].startswith("sagemaker_") else hyperparameter[1]
    known = SETTINGS if own == path else {**SETTINGS, **_OF_TRIALS}
    member = re.sub(r"\[[^\]]*\]", "", own)
    while member and member not in known:
        member = member.rpartition(".")[0]
    return known.get(member)


def _shortened(message: str) -> str:
    """Replaces a list of names that nobody would read, such as all instance types, by the likeliest ones."""
    match = _ONE_OF.fullmatch(message)
    names = match["names"].split(", ") if match else []
    if match is None or len(names) <= _MAX_LISTED:
        return message
    hint = did_you_mean(match["given"], names).strip()
    return f"is {match['given']!r}, which SageMaker does not know. {hint}".rstrip(" ?.")
