"""One handle for all jobs: training, the features of a search, a whole search, a tuning job."""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any, Self

from botocore import xform_name
from rich.console import Console

from dogbreeds.data.archives import unpack
from dogbreeds.errors import UserError
from dogbreeds.files import lines_beside
from dogbreeds.overrides import override
from dogbreeds.sagemaker.aws_errors import ForbiddenError, MissingError, advice, aws_errors
from dogbreeds.sagemaker.following import Followed
from dogbreeds.sagemaker.s3.storage import Storage
from dogbreeds.sagemaker.s3.transfers import split_uri
from dogbreeds.sagemaker.session import Account

log = logging.getLogger(__name__)

#: What AWS calls the two kinds of jobs.
TRAINING, TUNING = "TrainingJob", "HyperParameterTuningJob"
ENDED = ("Completed", "Failed", "Stopped")
#: Longest name of a tuning job (CreateHyperParameterTuningJob).
MAX_TUNING_JOB_NAME = 32
_LOG_GROUP = "/aws/sagemaker/TrainingJobs"
# CloudWatch has the last lines of a job some seconds after its end; AWS's SDK waits 10 s for them, once.
_LATE_LOG_SECONDS = 60.0
# While a job is Stopping, its output is uploaded. AWS lists jobs of one status at a time.
_STATUSES = ("InProgress", "Stopping")


@dataclass(frozen=True)
class JobHandle:
    """A job, `TRAINING` or `TUNING`, by its name."""

    account: Account
    name: str
    kind: str = TRAINING

    @classmethod
    def find(cls, account: Account, name: str) -> Self:
        """Returns the job of a name; raises a MissingError where there is none."""
        kinds = (TRAINING, TUNING) if len(name) <= MAX_TUNING_JOB_NAME else (TRAINING,)
        for kind in kinds:
            if (found := cls(account, name, kind)).exists():
                return found
        listed = account.command("aws", "action=status")
        raise MissingError(f"No training job named {name} {account.where}. See those that run: {listed}")

    def hint(self, action: str) -> str:
        """Returns the command that does something with this job: `attach` or `stop`."""
        return self.account.command("launch", override(action, self.name))

    @cached_property
    def followed(self) -> Followed:
        return Followed(self.account, "The job", self.hint("attach"))

    def exists(self) -> bool:
        with suppress(MissingError):
            self.describe()
            return True
        return False

    def describe(self) -> dict[str, Any]:
        with aws_errors(f"get the status of {self.name}"):
            return self._call("Describe")

    def status(self) -> str:
        return str(self.describe()[f"{self.kind}Status"])

    def wait(self) -> dict[str, Any]:
        """Prints a job's log and its changes of status until it ends, and returns its last description."""
        reader, printed = LogReader(self), list[str]()
        with self.followed.explained():
            described = self.describe()
            while True:
                found = changes(described, self.kind)
                for number, change in enumerate(found):
                    if printed[number : number + 1] != [change]:
                        log.info("%s  %s", self.name, change)
                printed = found
                reader.print_new()
                if described[f"{self.kind}Status"] in ENDED:
                    reader.print_late()
                    return described
                time.sleep(self.account.poll_seconds)
                described = self.followed.ask(self.describe)

    def stop(self) -> str:
        """Stops the job, and returns what to print."""
        try:
            with aws_errors(f"stop {self.name}"):
                self._call("Stop")
        except UserError:
            described = self.describe()
            if described[f"{self.kind}Status"] not in ENDED:
                raise
            return "\n".join(summary(described, self.kind))
        return f"Stopping {self.name}; its results so far are kept. Fetch them with: {self.hint('attach')}"

    def fetch(self, described: Mapping[str, Any], directory: Path) -> None:
        """Brings what this job or the trial `described` by AWS has made, if anything, into a run directory."""
        self.followed.ask(lambda: _fetch(self.account, described, directory))

    def _call(self, verb: str) -> dict[str, Any]:
        operation = getattr(self.account.sagemaker, xform_name(f"{verb}{self.kind}"))
        return dict(operation(**{f"{self.kind}Name": self.name}))


class LogReader:
    """Prints the log of a job, each line once, whatever the number of its instances; tuning jobs have none."""

    def __init__(self, job: JobHandle) -> None:
        self._job, self._readable = job, job.kind == TRAINING
        self._tokens: dict[str, str] = {}

    def print_new(self) -> bool:
        """Prints the lines that are new since the last call, and says whether there were any."""
        printed = False
        try:
            for stream in self._job.followed.ask(self._streams) if self._readable else ():
                while events := self._job.followed.ask(partial(self._events, stream)):
                    printed = True
                    for event in events:
                        log.info("  %s", event["message"].rstrip())
        except MissingError:
            # No job of this account has written anything yet.
            pass
        except ForbiddenError as error:
            log.warning("%s The job goes on; its results will be fetched.", error)
            self._readable = False
        return printed

    def print_late(self) -> None:
        """Prints what comes after the end of the job, until the log is quiet."""
        pause = self._job.account.poll_seconds
        end, quiet = time.monotonic() + _LATE_LOG_SECONDS, 0
        while self._readable and quiet < 2 and time.monotonic() < end:
            time.sleep(pause)
            quiet = 0 if self.print_new() else quiet + 1

    def _streams(self) -> list[str]:
        group = {"logGroupName": _LOG_GROUP, "logStreamNamePrefix": f"{self._job.name}/"}
        with aws_errors(f"read the log of {self._job.name}"):
            found = self._job.account.logs.describe_log_streams(**group)["logStreams"]
        return [stream["logStreamName"] for stream in found]

    def _events(self, stream: str) -> list[dict[str, Any]]:
        asked = {"logGroupName": _LOG_GROUP, "logStreamName": stream, "startFromHead": True}
        token = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
        with aws_errors(f"read the log of {self._job.name}"):
            page = self._job.account.logs.get_log_events(**asked, **token)
        self._tokens[stream] = page["nextForwardToken"]
        return list(page["events"])


def results_of(account: Account, described: Mapping[str, Any]) -> tuple[str, Storage]:
    """Returns the S3 folder that holds those of a job that AWS describes, each below its name, and what reads it."""
    settings, first = account.settings, described.get("TrainingJobDefinitions", [described])[0]
    output = str(described.get("TrainingJobDefinition", first)["OutputDataConfig"]["S3OutputPath"])
    return output, Storage(lambda: account.s3, split_uri(output)[0], settings.prefix, settings.kms_key, Console())


def _fetch(account: Account, described: Mapping[str, Any], directory: Path) -> None:
    output, storage = results_of(account, described)
    job = f"{output}/{described['TrainingJobName']}"
    if storage.exists(f"{job}/output/output.tar.gz"):
        storage.download_archive(f"{job}/output/output.tar.gz", directory)
    if storage.exists(f"{job}/output/model.tar.gz"):
        storage.download(f"{job}/output/model.tar.gz", directory / "model.tar.gz")
        unpack(directory / "model.tar.gz", directory / "model")
    if described.get("ProfilerRuleConfigurations"):
        storage.download_folder(f"{job}/rule-output", directory / "rule-output")


def changes(described: Mapping[str, Any], kind: str) -> list[str]:
    """Returns the changes of a training job's status so far, or the state of a tuning job."""
    if kind == TRAINING:
        passed = described.get("SecondaryStatusTransitions") or []
        return [f"{one['Status']}  {one.get('StatusMessage', '')}" for one in passed]
    counters = described.get("TrainingJobStatusCounters", {})
    counts = ", ".join(f"{count} {name}" for name, count in counters.items() if count)
    best = described.get("BestTrainingJob", {}).get("FinalHyperParameterTuningJobObjectiveMetric")
    reached = f"; best {best['MetricName']} {best['Value']:.4f}" if best else ""
    return [f"{described[f'{kind}Status']}{f' ({counts})' if counts else ''}{reached}"]


def summary(described: Mapping[str, Any], kind: str = TRAINING) -> list[str]:
    """Returns the lines to print about a job that has ended: status, rules, time and what Spot saved."""
    # Behind the code of a reason stands what the program said, which is not AWS's.
    code = described.get("FailureReason", "").partition(":")[0]
    advised, status = advice(code) or advice(described.get("SecondaryStatus", "")), described[f"{kind}Status"]
    return lines_beside(__file__, "summary.txt", described=described, status=status, advised=advised)


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
