"""What AWS says of a job, as lines for the person who follows it."""

from collections.abc import Mapping
from typing import Any

from dogbreeds.sagemaker.aws_errors import advice

#: What AWS calls the two kinds of jobs.
TRAINING, TUNING = "TrainingJob", "HyperParameterTuningJob"
ENDED = ("Completed", "Failed", "Stopped")


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
    status, phase = described[f"{kind}Status"], described.get("SecondaryStatus", "")
    reason = described.get("FailureReason", "")
    message = (described.get("SecondaryStatusTransitions") or [{}])[-1].get("StatusMessage", "")
    lines = [f"status {status}{f', {phase}' if phase else ''}{f': {message}' if message else ''}"]
    if reason:
        lines.append(f"reason {reason}")
    # Behind the code of a reason stands what the program said, which is not AWS's.
    found = advice(reason.partition(":")[0]) or advice(phase)
    if found and status != "Completed":
        lines.append(f"try    {found}")
    for rules in ("DebugRuleEvaluationStatuses", "ProfilerRuleEvaluationStatuses"):
        for rule in described.get(rules) or []:
            details = f" ({rule['StatusDetails']})" if rule.get("StatusDetails") else ""
            lines.append(f"rule   {rule['RuleConfigurationName']}: {rule['RuleEvaluationStatus']}{details}")
    trained, billed = described.get("TrainingTimeInSeconds"), described.get("BillableTimeInSeconds")
    if billed is not None and trained:
        spot = described.get("EnableManagedSpotTraining")
        saved = f", Spot saved {100 * (1 - billed / trained):.0f}%" if spot else ""
        lines.append(f"time   {trained} s, {billed} s billed{saved}")
    return lines
