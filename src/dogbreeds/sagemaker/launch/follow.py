"""Follows a training job: prints its log and its status until it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from dogbreeds.sagemaker.aws_errors import MissingError, advice, aws_errors
from dogbreeds.sagemaker.session import Account, explain_detach

log = logging.getLogger(__name__)

_LOG_GROUP = "/aws/sagemaker/TrainingJobs"
ENDED = ("Completed", "Failed", "Stopped")


def describe(account: Account, job: str) -> dict[str, Any]:
    """Returns AWS's description of a training job."""
    again = account.command("launch", f"attach={job}")
    try:
        with aws_errors(f"get the status of {job}", f"If it is running, follow it again with: {again}"):
            return dict(account.sagemaker.describe_training_job(TrainingJobName=job))
    except MissingError as error:
        raise MissingError(f"No training job named {job} {account.where}.") from error


def is_tuning_job(account: Account, job: str) -> bool:
    try:
        with aws_errors(f"get the status of {job}"):
            account.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=job)
    except MissingError:
        return False
    return True


def follow(account: Account, job: str) -> dict[str, Any]:
    """Prints a job's log and its changes of status until it ends, and returns its last description."""
    reader, printed = LogReader(account, job), 0
    with explain_detach(account, "The job", account.command("launch", f"attach={job}")):
        while True:
            described = describe(account, job)
            transitions = described.get("SecondaryStatusTransitions") or []
            for transition in transitions[printed:]:
                log.info("%s  %s  %s", job, transition["Status"], transition.get("StatusMessage", ""))
            printed = len(transitions)
            for line in reader.new():
                log.info("  %s", line)
            if described["TrainingJobStatus"] in ENDED:
                return described
            time.sleep(account.poll_seconds)


def status_of(described: Mapping[str, Any]) -> str:
    """Returns the status of a job with its phase and AWS's message."""
    transitions = described.get("SecondaryStatusTransitions") or [{}]
    phase = described.get("SecondaryStatus", "")
    message = transitions[-1].get("StatusMessage", "")
    return f"{described['TrainingJobStatus']}{f', {phase}' if phase else ''}{f': {message}' if message else ''}"


class LogReader:
    """Reads the log of a job, each line once, whatever the number of its instances."""

    def __init__(self, account: Account, job: str) -> None:
        self._account, self._job = account, job
        self._tokens: dict[str, str] = {}

    def new(self) -> Iterator[str]:
        """Yields the lines that are new since the last call."""
        for stream in self._streams():
            while True:
                token = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
                page = self._account.logs.get_log_events(
                    logGroupName=_LOG_GROUP, logStreamName=stream, startFromHead=True, **token
                )
                yield from (event["message"].rstrip() for event in page["events"])
                former, self._tokens[stream] = self._tokens.get(stream), page["nextForwardToken"]
                if self._tokens[stream] == former or not page["events"]:
                    break

    def _streams(self) -> list[str]:
        try:
            with aws_errors(f"read the log of {self._job}"):
                found = self._account.logs.describe_log_streams(
                    logGroupName=_LOG_GROUP, logStreamNamePrefix=f"{self._job}/"
                )
        except MissingError:
            # No job of this account has written anything yet.
            return []
        return [stream["logStreamName"] for stream in found["logStreams"]]


def summary(described: Mapping[str, Any]) -> list[str]:
    """Returns the lines to print about a job that has ended: status, rules, time and what Spot saved."""
    lines = [f"status {status_of(described)}"]
    if described.get("FailureReason"):
        lines.append(f"reason {described['FailureReason']}")
    found = advice(f"{described.get('FailureReason', '')} {described.get('SecondaryStatus', '')}")
    if found and described["TrainingJobStatus"] != "Completed":
        lines.append(f"try    {found}")
    for kind in ("DebugRuleEvaluationStatuses", "ProfilerRuleEvaluationStatuses"):
        for rule in described.get(kind) or []:
            details = f" ({rule['StatusDetails']})" if rule.get("StatusDetails") else ""
            lines.append(f"rule   {rule['RuleConfigurationName']}: {rule['RuleEvaluationStatus']}{details}")
    trained, billed = described.get("TrainingTimeInSeconds"), described.get("BillableTimeInSeconds")
    if billed is not None and trained:
        spot = described.get("EnableManagedSpotTraining")
        saved = f", Spot saved {100 * (1 - billed / trained):.0f}%" if spot else ""
        lines.append(f"time   {trained} s, {billed} s billed{saved}")
    return lines
