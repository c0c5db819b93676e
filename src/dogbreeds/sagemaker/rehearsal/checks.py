"""What the service refuses of training jobs beyond `limits`: what does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dogbreeds.sagemaker.rehearsal.faults import Faults, invalid
from dogbreeds.sagemaker.rehearsal.objects import Objects, split_uri

#: Name of the role that a rehearsal's account has.
ROLE = "dogbreeds"
_DEBUGGER = ("DebugHookConfig", "DebugRuleConfigurations", "ProfilerRuleConfigurations")


def check_training_job(request: Mapping[str, Any], objects: Objects, faults: Faults) -> None:
    """Refuses a training job, or the definition of those of a tuning job, that could not run, with all problems."""
    problems = [*role_problems(request["RoleArn"]), *_inputs(request, objects)]
    if faults.debugger_closed:
        closed = "SageMaker Debugger is not available to this account."
        problems += [f"{name}: {closed}" for name in _DEBUGGER if request.get(name)]
    refuse(problems)


def refuse(problems: Iterable[str]) -> None:
    if found := list(problems):
        raise invalid(" ".join(found))


def role_problems(arn: str) -> Iterator[str]:
    """Yields what is wrong with the role that the service has to assume."""
    if not arn.endswith(f":role/{ROLE}"):
        yield (
            f"Could not assume role {arn}: it does not exist, or does not allow the principal "
            f"sagemaker.amazonaws.com. A rehearsal has the role {ROLE}."
        )


def _inputs(request: Mapping[str, Any], objects: Objects) -> Iterator[str]:
    for channel in request.get("InputDataConfig", []):
        uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
        if not objects.under(uri):
            yield (
                f'No S3 objects found under S3 URL "{uri}" given in input data source. The bucket '
                f"{split_uri(uri)[0]} must exist in this region and hold objects under that prefix."
            )
