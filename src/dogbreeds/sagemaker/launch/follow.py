"""Follows a job: its log as it comes, its status as it changes, and its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from dogbreeds.errors import UserError
from dogbreeds.installation import command
from dogbreeds.sagemaker.session import Session, message_of

log = logging.getLogger(__name__)

_LOG_GROUP = "/aws/sagemaker/TrainingJobs"
ENDED = ("Completed", "Failed", "Stopped")


def describe(session: Session, job: str) -> dict[str, Any]:
    """Returns what the service says of a training job.

    Raises:
        UserError: There is no such job, or the service cannot be asked.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return dict(session.sagemaker.describe_training_job(TrainingJobName=job))
    except (ClientError, BotoCoreError) as error:
        if _is_unknown(error):
            raise UserError(f"There is no training job {job} ({message_of(error)}).") from error
        raise UserError(
            f"{job} cannot be asked about ({message_of(error)}). If it runs, it goes on: follow it again with "
            f"{command('launch')} attach={job}"
        ) from error


def is_tuning_job(session: Session, job: str) -> bool:
    """Says whether a name is one of a tuning job."""
    from botocore.exceptions import ClientError

    try:
        session.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=job)
    except ClientError as error:
        if _is_unknown(error):
            return False
        raise UserError(f"{job} cannot be asked about ({message_of(error)}).") from error
    return True


def _is_unknown(error: Exception) -> bool:
    code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    return code in ("ValidationException", "ResourceNotFound")


def follow(session: Session, job: str) -> dict[str, Any]:
    """Prints a job's log and its changes of status until it has ended.

    Returns:
        What the service says of it at its end.

    Raises:
        KeyboardInterrupt: Ctrl-C; the job goes on.
        UserError: There is no such job.
    """
    reader = LogReader(session, job)
    told = 0
    while True:
        described = describe(session, job)
        transitions = described.get("SecondaryStatusTransitions") or []
        for transition in transitions[told:]:
            log.info("%s  %s  %s", job, transition["Status"], transition.get("StatusMessage", ""))
        told = len(transitions)
        for line in reader.new():
            log.info("  %s", line)
        if described["TrainingJobStatus"] in ENDED:
            return described
        time.sleep(session.between_looks)


def status_of(described: Mapping[str, Any]) -> str:
    """Returns the status of a job in words: the phase it is in, and what the service says of it."""
    transitions = described.get("SecondaryStatusTransitions") or [{}]
    phase = described.get("SecondaryStatus", "")
    message = transitions[-1].get("StatusMessage", "")
    return f"{described['TrainingJobStatus']}{f', {phase}' if phase else ''}{f': {message}' if message else ''}"


class LogReader:
    """Reads the log of a job, each line once, whatever the number of its machines."""

    def __init__(self, session: Session, job: str) -> None:
        """Begins at the first line."""
        self._session, self._job = session, job
        self._tokens: dict[str, str] = {}

    def new(self) -> Iterator[str]:
        """Yields what was written since the last time."""
        for stream in self._streams():
            while True:
                token = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
                page = self._session.logs.get_log_events(
                    logGroupName=_LOG_GROUP, logStreamName=stream, startFromHead=True, **token
                )
                yield from (event["message"].rstrip() for event in page["events"])
                if page["nextForwardToken"] == self._tokens.get(stream) or not page["events"]:
                    self._tokens[stream] = page["nextForwardToken"]
                    break
                self._tokens[stream] = page["nextForwardToken"]

    def _streams(self) -> list[str]:
        from botocore.exceptions import ClientError

        try:
            found = self._session.logs.describe_log_streams(
                logGroupName=_LOG_GROUP, logStreamNamePrefix=f"{self._job}/"
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            # Nothing has been written yet, by no job of this account.
            return []
        return [stream["logStreamName"] for stream in found["logStreams"]]


#: What to do about what the service says, by words of it.
_ADVICE = {
    "CapacityError": "There are no such machines at the moment: try another sagemaker.instance or region, or later.",
    "MaxRuntimeExceeded": "The job reached its time limit: raise sagemaker.hours.",
    "MaxWaitTimeExceeded": "No spare machines came in time: raise sagemaker.wait_hours, or leave sagemaker.spot out.",
    "ResourceLimitExceeded": "Ask AWS for a higher quota, or take another sagemaker.instance.",
    "AccessDenied": "docs/sagemaker.md has the rights that are needed.",
    "ThrottlingException": "AWS gets too many requests from this account: try again in a minute.",
    "Debugger": "Leave debugger=aws out: our own debugger runs in every job.",
    "AlgorithmError": "The log above says more; training with the same settings on this machine shows it.",
}


def advice(said: str) -> str:
    """Returns what to do about what the service says, with a space behind it; nothing where nothing is known."""
    return next((f"{words} " for name, words in _ADVICE.items() if name in said), "")


def summary(described: Mapping[str, Any]) -> list[str]:
    """Returns what is worth saying of a job that has ended: its status, rules, time and what spot saved."""
    lines = [f"status {status_of(described)}"]
    if described.get("FailureReason"):
        lines.append(f"reason {described['FailureReason']}")
    found = advice(f"{described.get('FailureReason', '')} {described.get('SecondaryStatus', '')}").strip()
    if found and described["TrainingJobStatus"] != "Completed":
        lines.append(f"try    {found}")
    for kind in ("DebugRuleEvaluationStatuses", "ProfilerRuleEvaluationStatuses"):
        for rule in described.get(kind) or []:
            details = f" ({rule['StatusDetails']})" if rule.get("StatusDetails") else ""
            lines.append(f"rule   {rule['RuleConfigurationName']}: {rule['RuleEvaluationStatus']}{details}")
    trained, billed = described.get("TrainingTimeInSeconds"), described.get("BillableTimeInSeconds")
    if billed is not None and trained:
        spot = described.get("EnableManagedSpotTraining")
        saved = f", spot saved {100 * (1 - billed / trained):.0f}%" if spot else ""
        lines.append(f"time   {trained} s, {billed} s billed{saved}")
    return lines
