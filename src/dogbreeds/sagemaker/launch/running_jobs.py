"""The jobs of an account that have not ended: they cost, and need their role and their bucket."""

from itertools import product

from botocore import xform_name

from dogbreeds.sagemaker.aws_errors import aws_errors
from dogbreeds.sagemaker.launch.job_handle import TRAINING, TUNING, JobHandle
from dogbreeds.sagemaker.session import Account

# While a job is Stopping, its output is uploaded. AWS lists jobs of one status at a time.
_STATUSES = ("InProgress", "Stopping")


def running_jobs(account: Account, role: str | None) -> list[JobHandle]:
    """Returns the jobs with the prefix of the settings or the role of a name; tuning jobs stand for their trials."""
    found: list[JobHandle] = []
    for kind, status in product((TUNING, TRAINING), _STATUSES):
        with aws_errors("list the jobs that run"):
            pages = list(account.sagemaker.get_paginator(xform_name(f"List{kind}s")).paginate(StatusEquals=status))
        jobs = [JobHandle(account, one[f"{kind}Name"], kind) for page in pages for one in page[f"{kind}Summaries"]]
        trials = tuple(f"{job.name}-" for job in found if job.kind == TUNING)
        found += [job for job in jobs if not job.name.startswith(trials) and _needs(job, role)]
    return found


def _needs(job: JobHandle, role: str | None) -> bool:
    named = job.name.startswith(f"{job.account.settings.prefix}-")
    if named or role is None:
        return named
    described = job.describe()
    trials = [described.get("TrainingJobDefinition", {}), *described.get("TrainingJobDefinitions", [])]
    return any(one.get("RoleArn", "").endswith(f"/{role}") for one in (described, *trials))
